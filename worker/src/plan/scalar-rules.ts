/** Scalars with a notation of their own: each rule says what is wrong with a value, or null. */
import { DURATION_FORM, formatDuration, parseDuration } from './duration.ts';
import { parseLocation } from './locations.ts';
import type { ScalarRule } from './schema-fields.ts';
import { formatSize, parseFlinkSize, parseSize, SIZE_FORM } from './size.ts';

/** The end of a sentence that begins with the field's name: `must be ...: fix`. */
export function scalarProblem(rule: ScalarRule, value: string | number): string | null {
  switch (rule.kind) {
    case 'duration':
      return durationProblem(rule, String(value));
    case 'size':
      return sizeProblem(rule, value);
    case 'cpu':
      return cpuMillis(value) === null
        ? `is ${value}, not a CPU amount: write cores such as 2, or 500m`
        : null;
    case 'timestamp':
      return parseTimestamp(value) === null
        ? `is ${value}, not a point in time: write 2026-01-31T08:00:00Z or ms since 1970`
        : null;
    case 'location': {
      const location = parseLocation(String(value));
      return 'problem' in location ? `is not usable: ${location.problem}` : null;
    }
    case 'url':
      return urlProblem(String(value));
    case 'servers':
      return serversProblem(String(value));
    case 'header':
      return CONTROL.test(String(value)) ? 'holds a line break or control character' : null;
  }
}

function durationProblem(rule: { min: number; max: number }, text: string): string | null {
  const ms = parseDuration(text);
  if (ms === null) return `is ${JSON.stringify(text)}, not a duration: write ${DURATION_FORM}`;
  if (ms < rule.min) return `is ${text}: write at least ${formatDuration(rule.min)}`;
  if (ms > rule.max) return `is ${text}: write at most ${Math.floor(rule.max / 3_600_000)}h`;
  return null;
}

function sizeProblem(rule: { min: number; max: number }, value: string | number): string | null {
  const bytes = parseSize(value);
  if (bytes === null) {
    const flink = parseFlinkSize(value);
    const meant = flink === null ? `write ${SIZE_FORM}` : `write ${formatSize(flink)}`;
    return `is ${JSON.stringify(value)}, not a size: ${meant}`;
  }
  if (bytes < rule.min) return `is ${value}: write at least ${formatSize(rule.min)}`;
  if (bytes > rule.max) return `is ${value}: write at most ${formatSize(rule.max)}`;
  return null;
}

/** For the API server too, as TIMESTAMP_PATTERN. */
export const CPU_PATTERN = '^[0-9]+([.][0-9]{1,3})?m?$';

/** Thousandths of a core of a Kubernetes CPU quantity, or null. */
export function cpuMillis(value: string | number): number | null {
  const text = String(value);
  if (!new RegExp(CPU_PATTERN).test(text)) return null;
  const millis = Math.round(Number.parseFloat(text) * (text.endsWith('m') ? 1 : 1000));
  return millis > 0 ? millis : null;
}

export const TIMESTAMP_PATTERN =
  '^([0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,3})?)?' +
  '(Z|[+-][0-9]{2}:[0-9]{2}))$';

/** Milliseconds since 1970 of an instant with its zone, or of a whole number; null otherwise. */
export function parseTimestamp(value: string | number): number | null {
  const text = String(value);
  if (!new RegExp(TIMESTAMP_PATTERN).test(text)) return null;
  const ms = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  return Number.isSafeInteger(ms) ? ms : null;
}

function urlProblem(text: string): string | null {
  if (!URL.canParse(text)) return `is ${JSON.stringify(text)}, not a URL: write http://host/path`;
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    return `has the scheme ${url.protocol}//: only http:// and https:// are supported`;
  }
  if (url.username !== '' || url.password !== '') {
    return 'holds a user name or password: take it out, the file is not a place for secrets';
  }
  return url.hash === '' ? null : `has the fragment ${url.hash}, which is never sent: remove it`;
}

const SERVER = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/** `host:port,host:port` as a list, blanks dropped. */
export function splitServers(text: string): string[] {
  return text.split(',').map((server) => server.trim());
}

function serversProblem(text: string): string | null {
  for (const server of splitServers(text)) {
    const port = Number(SERVER.exec(server)?.[1] ?? 0);
    if (port < 1 || port > 65_535) {
      return `holds ${JSON.stringify(server)}: write host:port, several with commas between`;
    }
  }
  return null;
}
