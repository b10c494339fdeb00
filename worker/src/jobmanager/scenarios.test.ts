/**
 * Plays scenarios/*.scenario against the pure decisions of the JobManager. A file holds scenarios:
 *
 *   scenario TITLE
 *   given NAME=VALUE ...                  settings, before the first event
 *   # why                                 a remark
 *   TIME  EVENT ...  -> ANSWER; ANSWER    `-` = nothing follows
 *
 * The words of each file are those of its player below. UPDATE_GOLDEN=1 writes the answers anew;
 * the diff is the review.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { RestartStrategyPlan } from '../plan/job-plan.ts';
import { assignSlots, keyGroupRanges, overlapping, splitsBySubtask } from './assign.ts';
import { coordinate, initialCoordinator, nextWakeAt } from './checkpoint-coordinator.ts';
import type {
  CoordinatorCommand,
  CoordinatorEvent,
  CoordinatorPlan,
  CoordinatorState,
} from './coordinator-model.ts';
import { NO_RESTARTS, onFailure, type RestartState } from './restart-strategy.ts';

/** One scenario's course: settings by name, then what each event answers. */
type Player = (given: Words, event: Words, now: number) => string[];

const EVENT_COLUMNS = 30;

/** `a b=1` -> plain [a], named {b: 1}. Whoever asks for a word that is not there is told so. */
class Words {
  readonly plain: readonly string[];
  readonly #named: ReadonlyMap<string, string>;

  constructor(text: string) {
    const words = text.split(/\s+/).filter((word) => word !== '');
    this.plain = words.filter((word) => !word.includes('='));
    this.#named = new Map(
      words.filter((word) => word.includes('=')).map((word) => word.split('=') as [string, string]),
    );
  }

  get verb(): string {
    return this.at(0);
  }

  at(index: number): string {
    const word = this.plain[index];
    if (word === undefined) throw new Error(`word ${index + 1} is missing`);
    return word;
  }

  number(index: number): number {
    return toNumber(this.at(index));
  }

  named(name: string, otherwise: number): number {
    const word = this.#named.get(name);
    return word === undefined ? otherwise : toNumber(word);
  }

  unknownVerb(): never {
    throw new Error(`unknown event ${this.verb}`);
  }
}

function toNumber(word: string): number {
  const value = Number(word);
  if (Number.isNaN(value)) throw new Error(`${word} is no number`);
  return value;
}

/** The file's text with the answers that the code gives now. Throws for a line it can't read. */
function play(text: string, makePlayer: () => Player): string {
  let player: Player | null = null;
  let given = new Words('');
  let clock = -1;
  const playLine = (line: string): string => {
    if (line === '' || /^\s*#/.test(line)) return line;
    if (line.startsWith('scenario ')) {
      player = makePlayer();
      given = new Words('');
      clock = -1;
      return line;
    }
    if (line.startsWith('given ')) {
      given = new Words(line.slice('given '.length));
      return line;
    }
    const parts = /^\s*(\d+)\s+(\S.*?)\s+->\s.*$/.exec(line);
    if (parts === null) throw new Error('expected TIME EVENT -> ANSWER');
    if (player === null) throw new Error('no scenario begins before it');
    const now = Number(parts[1]);
    if (now < clock) throw new Error(`time runs back from ${clock}`);
    clock = now;
    const event = parts[2]!.replaceAll(/\s+/g, ' ');
    const answers = player(given, new Words(event), now).join('; ') || '-';
    return `${String(now).padStart(8)}  ${event.padEnd(EVENT_COLUMNS)} -> ${answers}`;
  };
  const lines = text.split('\n').map((line, index) => {
    try {
      return playLine(line);
    } catch (error) {
      throw new Error(`line ${index + 1}, ${line.trim()}: ${String(error)}`);
    }
  });
  if (player === null) throw new Error('the file holds no scenario');
  return lines.join('\n');
}

function coordinatorPlayer(): Player {
  let state: CoordinatorState = initialCoordinator(1);
  let attempt = 0;
  return (given, event, now) => {
    const plan: CoordinatorPlan = {
      intervalMs: given.named('interval', 10),
      minPauseMs: given.named('pause', 0),
      timeoutMs: given.named('timeout', 30),
      tolerableFailures: given.named('tolerable', 0),
    };
    if (event.verb === 'wake?') return [String(nextWakeAt(plan, state) ?? 'never')];
    const input = coordinatorEvent(event, event.named('attempt', attempt));
    if (input.type === 'started' || input.type === 'tasks-replaced') attempt = input.attempt;
    const result = coordinate(plan, state, input, now);
    state = result.state;
    const answer = result.answer === undefined ? [] : [result.answer];
    return [...answer, ...result.commands.map(showCommand)];
  };
}

function coordinatorEvent(words: Words, attempt: number): CoordinatorEvent {
  const task = () => ({ attempt, checkpointId: words.number(1), subtask: words.number(2) });
  switch (words.verb) {
    case 'start':
      return { type: 'started', attempt: words.number(1), parallelism: words.named('tasks', 1) };
    case 'suspend':
      return { type: 'suspended' };
    case 'lost':
      return { type: 'tasks-lost', subtasks: [words.number(1)] };
    case 'replaced': {
      const attempts = words.plain.slice(1).map(Number);
      return { type: 'tasks-replaced', attempt: Math.max(...attempts), attempts };
    }
    case 'tick':
      return { type: 'tick' };
    case 'request': {
      const kind = (['manual', 'savepoint', 'final'] as const).find((name) => name === words.at(1));
      if (kind === undefined) throw new Error(`unknown kind ${words.at(1)}`);
      return { type: 'request', kind, token: words.at(2) };
    }
    case 'ack':
      return { type: 'ack', ...task() };
    case 'decline':
      return { type: 'decline', ...task(), reason: 'disk full' };
    case 'drained':
      return { type: 'drained', ...task() };
    case 'published':
      return { type: 'published', checkpointId: words.number(1) };
    case 'publish-failed':
      return { type: 'publish-failed', checkpointId: words.number(1), error: '503' };
    case 'abort':
      return { type: 'abort', detail: 'asked' };
    default:
      words.unknownVerb();
  }
}

function showCommand(command: CoordinatorCommand): string {
  switch (command.type) {
    case 'trigger':
    case 'complete': {
      const { type, checkpointId, kind, token } = command;
      return `${type} ${checkpointId} ${kind}${token === null ? '' : ` for ${token}`}`;
    }
    case 'publish':
      return `publish ${command.checkpointId}`;
    case 'abort': {
      const { checkpointId, token, reason, detail } = command;
      const served = token === null ? '' : ` for ${token}`;
      return `abort ${checkpointId}${served} ${reason}${detail === null ? '' : ` (${detail})`}`;
    }
    case 'reject':
      return `reject ${command.token} ${command.reason}`;
    case 'fail-job':
      return `fail-job: ${command.reason}`;
  }
}

function restartPlayer(): Player {
  let state: RestartState = NO_RESTARTS;
  return (given, event, now) => {
    if (event.verb !== 'failure') event.unknownVerb();
    const decision = onFailure(restartPlan(given), state, now, event.named('random', 0.5));
    state = decision.state;
    return [decision.restart ? `restart in ${decision.delayMs}` : `give up: ${decision.reason}`];
  };
}

function restartPlan(given: Words): RestartStrategyPlan {
  const delayMs = given.named('delay', 0);
  switch (given.verb) {
    case 'none':
      return { type: 'none' };
    case 'fixed-delay':
      return { type: 'fixed-delay', attempts: given.named('attempts', 0), delayMs };
    case 'failure-rate': {
      const maxFailures = given.named('failures', 0);
      return { type: 'failure-rate', maxFailures, intervalMs: given.named('within', 0), delayMs };
    }
    case 'exponential-delay':
      return {
        type: 'exponential-delay',
        initialMs: given.named('initial', 0),
        maxMs: given.named('max', 0),
        multiplier: given.named('multiplier', 0),
        jitter: given.named('jitter', 0),
        resetAfterMs: given.named('reset', 0),
      };
    default:
      throw new Error(`unknown strategy ${given.verb}`);
  }
}

/** TaskManagers come and go; the answer is who runs which subtask, or how many slots lack. */
function slotPlayer(): Player {
  const hosts = new Map<string, { id: string; slots: number }>();
  return (given, event) => {
    const parallelism = given.named('parallelism', 1);
    const ranges = keyGroupRanges(parallelism, given.named('keygroups', 128));
    switch (event.verb) {
      case 'register':
        hosts.set(event.at(1), { id: event.at(1), slots: event.named('slots', 1) });
        return [showSlots(parallelism, [...hosts.values()])];
      case 'lost':
        hosts.delete(event.at(1));
        return [showSlots(parallelism, [...hosts.values()])];
      case 'ranges':
        return ranges.map(({ first, last }) => `${first}-${last}`);
      case 'splits': {
        const positions = Array.from({ length: event.number(1) }, (_, index) => ({
          split: { id: `p-${index}`, sourceId: 't', partition: index, index },
          offset: 0,
          clock: -1,
        }));
        return splitsBySubtask(positions, parallelism).map(
          (own, subtask) =>
            `${subtask}: ${own.map(({ split }) => split.index).join(' ') || 'none'}`,
        );
      }
      case 'restore-from': {
        const before = keyGroupRanges(event.number(1), given.named('keygroups', 128));
        // Of a snapshot only its range decides who reads it.
        const snapshots = before.map((range, subtask) => ({ ...SNAPSHOT, subtask, range }));
        return ranges.map((range, subtask) => {
          const read = overlapping(snapshots, range).map((snapshot) => snapshot.subtask);
          return `${subtask} reads ${read.join(' ')}`;
        });
      }
      default:
        return event.unknownVerb();
    }
  };
}

const SNAPSHOT = {
  attempt: 1,
  bases: [],
  deltas: [],
  volatile: null,
  splits: [],
  script: { version: 'v1', text: 'true', language: 'aviator' as const },
  ledger: { accepted: 0, noMatch: 0, delivered: 0, deadLettered: 0, parked: 0, inOutbox: 0 },
  figures: {
    alignmentMs: 0,
    syncMs: 0,
    asyncMs: 0,
    startDelayMs: 0,
    uploadedBytes: 0,
    stateBytes: 0,
    users: 0,
  },
};

function showSlots(parallelism: number, hosts: readonly { id: string; slots: number }[]): string {
  const chosen = assignSlots(parallelism, hosts);
  if (chosen.length < parallelism) return `wait for ${parallelism - chosen.length} more slots`;
  return chosen.map(({ host, slot }, subtask) => `${subtask}=${host.id}/${slot}`).join(' ');
}

const FILES: readonly [name: string, makePlayer: () => Player][] = [
  ['checkpoint-coordinator', coordinatorPlayer],
  ['restart-strategies', restartPlayer],
  ['slot-assignment', slotPlayer],
];

for (const [name, makePlayer] of FILES) {
  test(`scenarios/${name}.scenario`, () => {
    const file = new URL(`./scenarios/${name}.scenario`, import.meta.url);
    const expected = readFileSync(file, 'utf8');
    const played = play(expected, makePlayer);
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, played);
    else assert.equal(played, expected);
  });
}

test('the runner finds a wrong answer, a missing one, one too many and a forgotten event', () => {
  const right = play(
    [
      'scenario one checkpoint',
      'given interval=10',
      '0 start 1 tasks=1 -> ?',
      '10 tick -> ?',
      '11 ack 1 0 -> ?',
    ].join('\n'),
    coordinatorPlayer,
  );
  assert.equal(play(right, coordinatorPlayer), right, 'its own answers are right');
  const faults: [string, string][] = [
    ['-> trigger 1 periodic', '-> trigger 2 periodic'],
    ['-> trigger 1 periodic', '-> -'],
    ['-> ok; publish 1', '-> ok'],
    ['-> ok; publish 1', '-> ok; publish 1; complete 1 periodic'],
    ['      10  tick', '       9  tick'],
  ];
  for (const [part, wrong] of faults) {
    const changed = right.replace(part, wrong);
    assert.notEqual(changed, right, `${part} is in the text`);
    assert.notEqual(play(changed, coordinatorPlayer), changed, `${wrong} is found`);
  }
});

test('the runner refuses what it can not read, by line', () => {
  const refusals: [string, RegExp][] = [
    ['', /no scenario/],
    ['scenario a\n0 explode -> -', /line 2.*unknown event explode/],
    ['scenario a\n0 tick', /line 2.*expected TIME EVENT/],
    ['0 tick -> -', /line 1.*no scenario begins/],
    ['scenario a\n5 tick -> -\n4 tick -> -', /line 3.*time runs back/],
    ['scenario a\n0 ack one 0 -> -', /line 2.*one is no number/],
    ['scenario a\n0 request monthly m1 -> -', /line 2.*unknown kind/],
  ];
  for (const [text, message] of refusals) {
    assert.throws(() => play(text, coordinatorPlayer), { message });
  }
});
