/**
 * The verdict on a run: pure, from its history to the list of what is wrong. Rules (reliability.md
 * section 2b, PROTOCOLS P29-P35):
 *
 *   lost        a matching event without a delivery answered 2xx, and not in the dead letter (I2)
 *   invented    a delivery of no acknowledged event, or of one that does not match
 *   id          two ids for one event, one id for two events, webhook-id and ce-id differ (P30)
 *   body        not the bytes the fold gives
 *   divergent   a repeat with another body that no changed answer explains, or not counted (P33)
 *   repeat      a repeat in no class of P32
 *   order       per user, after dropping repeats, or within one attempt, not increasing (I4)
 *   overlap     two deliveries of one user at once (P31)
 *   state       the dump differs from the fold (I1)
 *   checkpoint  ledgers or positions of a completed checkpoint do not add up (I9)
 *   drain       the last checkpoint does not cover every record, or something still waits
 *   restore     a restore from an older checkpoint than the newest
 *   restart     an attempt that no kill explains
 *   coverage    the run is no evidence: too few kills, replays, repeats, phases, slots
 */
import { attemptOf, inOverlap } from './attempts.ts';
import { checkpointFaults, drainFaults, restoreFaults } from './checkpoint-rules.ts';
import {
  divergentCount,
  type KillFigures,
  killFigures,
  PHASE_LATE_LIMIT_MS,
  type SlotFigures,
  slotFigures,
} from './coverage.ts';
import { type Expected, expect } from './expected.ts';
import type { Matcher } from './fold.ts';
import type { Acked, History, Kill, Receipt } from './history.ts';
import { judgeRepeats, type RepeatClass } from './repeats.ts';
import { attemptIn } from './status.ts';

export type Rule =
  | 'lost'
  | 'invented'
  | 'id'
  | 'body'
  | 'divergent'
  | 'repeat'
  | 'order'
  | 'overlap'
  | 'state'
  | 'checkpoint'
  | 'drain'
  | 'restore'
  | 'restart'
  | 'coverage';

export interface Violation {
  rule: Rule;
  message: string;
}

/** Wrong data, not a run that merely broke down (`drain`, `restart`, `coverage`). */
export const DATA_RULES: ReadonlySet<string> = new Set([
  'lost',
  'invented',
  'body',
  'repeat',
  'state',
  'checkpoint',
]);

export interface Verdict {
  violations: Violation[];
  figures: {
    events: number;
    matching: number;
    receipts: number;
    checkpoints: number;
    repeats: Record<RepeatClass, number>;
    differingRepeats: number;
    divergentCounted: number;
    kills: KillFigures[];
    slots: SlotFigures[];
    maxUsersCached: number;
  };
}

interface Case {
  history: History;
  acked: ReadonlyMap<string, Acked>;
  byEvent: ReadonlyMap<string, Receipt[]>;
  expected: Expected;
}

const keyOf = (one: { user: string; seq: number }): string => `${one.user}/${one.seq}`;

function lost({ history, byEvent, expected }: Case): string[] {
  const deadLettered = new Set(history.meta.deadLettered);
  return [...expected.bodies.keys()].flatMap((key) => {
    const receipts = byEvent.get(key) ?? [];
    const done = receipts.some((one) => one.status !== null && one.status < 300);
    if (done || deadLettered.has(key)) return [];
    return [`${key}: ${receipts.length} receipts, none answered 2xx`];
  });
}

function invented({ acked, byEvent, expected }: Case): string[] {
  return [...byEvent].flatMap(([key, receipts]) => {
    if (!acked.has(key)) return [`${key}: ${receipts.length} receipts of no acknowledged event`];
    return expected.bodies.has(key) ? [] : [`${key}: delivered, but does not match the filter`];
  });
}

function ids({ history, byEvent }: Case): string[] {
  const faults: string[] = [];
  const eventOf = new Map<string, string>();
  for (const [key, receipts] of byEvent) {
    const found = new Set(receipts.map((one) => one.id));
    if (found.size > 1) faults.push(`${key}: ids ${[...found].join(', ')}`);
    for (const id of found) {
      const other = eventOf.get(id);
      if (id === '') faults.push(`${key}: no webhook-id`);
      else if (other !== undefined) faults.push(`id ${id}: both ${other} and ${key}`);
      eventOf.set(id, key);
    }
  }
  for (const one of history.receipts) {
    if (one.ceId !== null && one.ceId !== one.id) {
      faults.push(`${keyOf(one)}: webhook-id ${one.id}, ce-id ${one.ceId}`);
    }
  }
  return faults;
}

function bodies({ byEvent, expected }: Case): string[] {
  return [...byEvent].flatMap(([key, receipts]) => {
    const allowed = expected.bodies.get(key);
    const wrong = allowed === undefined ? 0 : receipts.filter((r) => !allowed.has(r.sha)).length;
    return wrong === 0 ? [] : [`${key}: ${wrong} of ${receipts.length} bodies are not the fold's`];
  });
}

/** Events whose repeats have different bodies. */
function differing({ byEvent }: Case): string[] {
  return [...byEvent]
    .filter(([, receipts]) => new Set(receipts.map((one) => one.sha)).size > 1)
    .map(([key]) => key);
}

function divergences(one: Case, counted: number): string[] {
  const keys = differing(one);
  const faults = keys
    .filter((key) => (one.history.served[key.split('/')[0]!] ?? []).length < 2)
    .map((key) => `${key}: repeated with another body, but its API answers never changed`);
  // Where nobody sampled the tasks' counters (pods of a lab), only the body is judged.
  const sampled = one.history.samples.length > 0;
  if (keys.length > 0 && counted === 0 && sampled) {
    faults.push(`${keys.length} events repeated with another body, none counted as divergent`);
  }
  return faults;
}

function order({ history }: Case): string[] {
  const faults: string[] = [];
  const highest = new Map<string, number>();
  const inAttempt = new Map<string, number>();
  const seen = new Set<string>();
  for (const one of history.receipts) {
    if (inOverlap(history.kills, one)) {
      // Whose it is can't be told, but that it came: what follows of it is a repeat.
      seen.add(keyOf(one));
      continue;
    }
    const attemptKey = `${attemptOf(history.kills, one)} ${one.user}`;
    const previous = inAttempt.get(attemptKey) ?? 0;
    // Equal is a retry; whether it was allowed is judged with the repeats.
    if (one.seq < previous) {
      faults.push(`${keyOf(one)}: after ${previous} in attempt ${attemptKey.split(' ')[0]}`);
    }
    inAttempt.set(attemptKey, Math.max(previous, one.seq));
    if (seen.has(keyOf(one))) continue;
    seen.add(keyOf(one));
    const before = highest.get(one.user) ?? 0;
    if (one.seq <= before) faults.push(`${keyOf(one)}: first delivered after ${before}`);
    highest.set(one.user, Math.max(before, one.seq));
  }
  return faults;
}

/** Judged only where the earlier one was answered: of a hung one the receiver can't see the end. */
function overlaps({ history }: Case): string[] {
  const last = new Map<string, Receipt>();
  return history.receipts.flatMap((one) => {
    const key = `${attemptOf(history.kills, one)} ${one.user}`;
    const before = last.get(key);
    last.set(key, one);
    if (before?.answeredAt == null || before.answeredAt <= one.at) return [];
    return [`${keyOf(one)}: arrived while ${keyOf(before)} was not answered`];
  });
}

function state({ history, expected }: Case): string[] {
  if (history.meta.dump === null) return [];
  const faults: string[] = [];
  const dumped = new Set<string>();
  let previous = '';
  for (const line of history.meta.dump) {
    const cut = /,"last_access":-?\d+\}$/.exec(line);
    const text = cut === null ? line : line.slice(0, cut.index);
    const user = JSON.parse(line)['user_id'] as string;
    if (dumped.has(user)) faults.push(`${user}: dumped twice`);
    else if (user < previous) faults.push(`${user}: dumped after ${previous}, not sorted`);
    dumped.add(user);
    previous = user;
    const allowed = expected.lines.get(user);
    if (allowed === undefined) faults.push(`${user}: in the dump, but it has no events`);
    else if (cut === null) faults.push(`${user}: the dump's line has no last_access at its end`);
    else if (!allowed.has(text)) faults.push(`${user}: ${difference(text, [...allowed])}`);
  }
  for (const user of expected.lines.keys()) {
    if (!dumped.has(user)) faults.push(`${user}: not in the dump`);
  }
  return faults;
}

/** Where a dumped line leaves the expected one that it follows longest. */
function difference(text: string, allowed: readonly string[]): string {
  let best = { at: -1, line: '' };
  for (const line of allowed) {
    let at = 0;
    while (at < text.length && text[at] === line[at]) at++;
    if (at > best.at) best = { at, line };
  }
  const part = (line: string) =>
    JSON.stringify(line.slice(Math.max(0, best.at - 30), best.at + 50));
  return `differs at ${best.at}: dumped ${part(text)}, expected ${part(best.line)}`;
}

/** More attempts than kills explain: the job restarted by itself. */
function restarts({ history }: Case): string[] {
  const { samples, kills, meta } = history;
  const running = samples.filter((one) => one.state === 'RUNNING');
  // Not their numbers: a new leader's attempts leave some out.
  const attempts = new Set(running.flatMap((one) => attemptIn(one) ?? []));
  const pids = new Set(samples.flatMap((one) => one.taskManagers.map(({ pid }) => pid)));
  const faults: string[] = [];
  const processes = [...pids].filter((pid) => pid > 1).length;
  const ended = kills.reduce((sum, { cut }) => sum + (cut?.addresses.length ?? 1), 0);
  if (processes > ended + meta.taskManagers) {
    faults.push(`${processes} TaskManager processes for ${kills.length} kills`);
  }
  if (attempts.size - 1 > kills.length) {
    faults.push(`attempts ${[...attempts].join(', ')} for ${kills.length} kills`);
  }
  return faults;
}

function coverage(
  { history }: Case,
  kills: readonly KillFigures[],
  slots: readonly SlotFigures[],
  repeats: Record<RepeatClass, number>,
): string[] {
  const faults: string[] = [];
  const working = slots.filter((slot) => slot.records > 0 && slot.cpuSeconds > 0).length;
  if (working < history.meta.slots) {
    faults.push(`${working} of ${history.meta.slots} slots did work`);
  }
  const { need } = history.meta;
  if (need === null) return faults;
  const counting = kills.filter((one) => one.counts);
  const frozen = counting.filter(({ kill }) => kill.reason === 'freeze').length;
  if (counting.length - frozen < need.kills) {
    faults.push(`${counting.length - frozen} kills count, at least ${need.kills} must`);
  }
  if (frozen < (need.freezes ?? 0)) {
    faults.push(`${frozen} freezes count, at least ${need.freezes} must`);
  }
  for (const phase of need.phases) {
    if (!counting.some(({ kill }) => kill.reason === phase && isInTime(kill))) {
      faults.push(`no counting kill in phase ${phase}`);
    }
  }
  const replayed = counting.reduce((sum, one) => sum + one.replayed, 0);
  if (replayed === 0) faults.push('no record was replayed');
  if (repeats.retry + repeats.replay + repeats['in-flight'] === 0) {
    faults.push('no delivery was repeated');
  }
  return faults;
}

function isInTime(kill: Kill): boolean {
  return kill.lateMs !== null && kill.lateMs <= PHASE_LATE_LIMIT_MS;
}

/** `matcherOf`: which script was in force at an event; FILTER_SCRIPT unless told. */
export function judge(history: History, matcherOf?: (event: Acked) => Matcher): Verdict {
  const acked = new Map<string, Acked>();
  for (const event of history.acked) if (event.seq > 0) acked.set(keyOf(event), event);
  const byEvent = Map.groupBy(history.receipts, keyOf);
  const expected = expect(history, matcherOf);
  const one: Case = { history, acked, byEvent, expected };
  const repeats = judgeRepeats(history, byEvent, acked);
  const kills = killFigures(history, acked);
  const slots = slotFigures(history.samples);
  const divergentCounted = divergentCount(history.samples);
  const violations: Violation[] = [];
  const add = (rule: Rule, messages: readonly string[]) => {
    for (const message of messages) violations.push({ rule, message });
  };
  add('lost', lost(one));
  add('invented', invented(one));
  add('id', ids(one));
  add('body', bodies(one));
  add('divergent', divergences(one, divergentCounted));
  add('repeat', repeats.violations);
  add('order', order(one));
  add('overlap', overlaps(one));
  add('state', state(one));
  add('checkpoint', checkpointFaults(history));
  add('drain', drainFaults(history));
  add('restore', restoreFaults(history));
  add('restart', restarts(one));
  add('coverage', coverage(one, kills, slots, repeats.byClass));
  const cached = history.samples.map((sample) =>
    sample.subtasks.reduce((sum, subtask) => sum + subtask.usersCached, 0),
  );
  return {
    violations,
    figures: {
      events: history.acked.length,
      matching: expected.bodies.size,
      receipts: history.receipts.length,
      checkpoints: history.checkpoints.length,
      repeats: repeats.byClass,
      differingRepeats: differing(one).length,
      divergentCounted,
      kills,
      slots,
      maxUsersCached: cached.reduce((most, count) => Math.max(most, count), 0),
    },
  };
}
