/**
 * Whether an object on the server says all that is wanted of it. The server fills in defaults and
 * others add fields of their own: what is not wanted is not looked at. So what was wanted once and
 * is no longer must show in what is: every desired object bears a hash of itself.
 */
import { ANNOTATIONS } from '../desired/names.ts';
import type { KubeObject } from '../kube/port.ts';

const SUFFIXES: ReadonlyMap<string, number> = new Map([
  ['n', 1e-9],
  ['u', 1e-6],
  ['m', 1e-3],
  ['', 1],
  ['k', 1e3],
  ['M', 1e6],
  ['G', 1e9],
  ['T', 1e12],
  ['P', 1e15],
  ['E', 1e18],
  ['Ki', 2 ** 10],
  ['Mi', 2 ** 20],
  ['Gi', 2 ** 30],
  ['Ti', 2 ** 40],
  ['Pi', 2 ** 50],
  ['Ei', 2 ** 60],
]);
const QUANTITY = /^([0-9]+(?:\.[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/;

/** The server writes 1000m as 1 and 1024Mi as 1Gi. */
function quantity(text: string): number | null {
  const [, amount, suffix = ''] = QUANTITY.exec(text) ?? [];
  return amount === undefined ? null : Number(amount) * (SUFFIXES.get(suffix) ?? Number.NaN);
}

function sameText(wanted: string, live: string): boolean {
  if (wanted === live) return true;
  const [a, b] = [quantity(wanted), quantity(live)];
  return a !== null && b !== null && Math.abs(a - b) <= 1e-9 * Math.max(a, b);
}

/** Empty maps and lists are what the server leaves out. */
const isNothing = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  (typeof value === 'object' && Object.values(value).every(isNothing));

export function holds(wanted: unknown, live: unknown): boolean {
  if (typeof wanted === 'string' && typeof live === 'string') return sameText(wanted, live);
  if (isNothing(wanted) && isNothing(live)) return true;
  if (Array.isArray(wanted)) {
    if (!Array.isArray(live) || live.length !== wanted.length) return false;
    return wanted.every((one, index) => holds(one, live[index]));
  }
  if (typeof wanted === 'object' && wanted !== null) {
    if (typeof live !== 'object' || live === null || Array.isArray(live)) return false;
    const known = live as Record<string, unknown>;
    return Object.entries(wanted).every(([key, one]) => holds(one, known[key]));
  }
  return Object.is(wanted, live) || (wanted === false && live === undefined);
}

/** Whether the server would refuse to change the object into what is wanted (desired.ts). */
export function mustReplace(wanted: KubeObject, live: KubeObject): boolean {
  const hash = (object: KubeObject) => object.metadata.annotations?.[ANNOTATIONS.immutableHash];
  return hash(wanted) !== undefined && hash(live) !== undefined && hash(wanted) !== hash(live);
}
