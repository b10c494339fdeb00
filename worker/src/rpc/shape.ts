/**
 * Checks what came over the wire before the rest of the process trusts its fields. Shallow: the top
 * level of each message. Deeper parts come from the same build on the other side (RPC_VERSION).
 */
import type { Command, Report } from './messages.ts';

type FieldType =
  | 'string'
  | 'number'
  | 'boolean'
  | 'object'
  | 'array'
  | 'object or null'
  | 'string or null'
  | 'number or null';
type Fields = Readonly<Record<string, FieldType>>;

const TASK = { taskManagerId: 'string', attempt: 'number' } as const;
const REPORT_FIELDS: Readonly<Record<Report['type'], Fields>> = {
  register: {
    version: 'number',
    taskManagerId: 'string',
    host: 'string',
    pid: 'number',
    slots: 'number',
    shuffleHost: 'string',
    shufflePort: 'number',
    leaderEpoch: 'number',
    running: 'object or null',
  },
  heartbeat: { taskManagerId: 'string', leaderEpoch: 'number', metrics: 'object' },
  running: { ...TASK, subtask: 'number', restoreMs: 'number' },
  detached: { ...TASK, subtask: 'number', positions: 'array' },
  replaced: TASK,
  'caught-up': { ...TASK, subtask: 'number' },
  ack: { ...TASK, checkpointId: 'number', snapshot: 'object' },
  decline: { ...TASK, checkpointId: 'number', subtask: 'number', reason: 'string' },
  drained: { ...TASK, checkpointId: 'number', subtask: 'number' },
  failed: { ...TASK, subtask: 'number', code: 'string', error: 'string' },
  'peer-lost': { ...TASK, peer: 'string', code: 'string', error: 'string' },
  canceled: TASK,
  log: { taskManagerId: 'string', log: 'object or null' },
  answer: { ...TASK, id: 'string', answer: 'object' },
};

const LEADER = { leaderEpoch: 'number' } as const;
const DEPLOYMENT: Fields = {
  ...LEADER,
  jobId: 'string',
  attempt: 'number',
  lineage: 'string',
  plan: 'object',
  script: 'object',
  ranges: 'array',
  attempts: 'array',
  tasks: 'array',
  members: 'array',
  secret: 'string',
  facts: 'object',
};
const COMMAND_FIELDS: Readonly<Record<Command['type'], Fields>> = {
  registered: { version: 'number', leaderEpoch: 'number', taskManagerId: 'string' },
  refused: { reason: 'string', code: 'string', leader: 'string or null' },
  alive: { ...LEADER, discoveredAt: 'number or null' },
  deploy: DEPLOYMENT,
  detach: { ...LEADER, attempt: 'number', subtasks: 'array' },
  replace: DEPLOYMENT,
  replay: { ...LEADER, attempt: 'number', positions: 'array', goals: 'array' },
  cancel: { ...LEADER, attempt: 'number' },
  trigger: {
    ...LEADER,
    attempt: 'number',
    checkpointId: 'number',
    triggeredAt: 'number',
    script: 'object',
  },
  notify: { ...LEADER, attempt: 'number', checkpointId: 'number' },
  abort: { ...LEADER, attempt: 'number', checkpointId: 'number' },
  'hold-sources': { ...LEADER, attempt: 'number', held: 'boolean' },
  'add-splits': { ...LEADER, attempt: 'number', subtask: 'number', splits: 'array' },
  'tell-log': LEADER,
  query: {
    ...LEADER,
    attempt: 'number',
    subtask: 'number',
    id: 'string',
    query: 'object',
  },
  shutdown: LEADER,
};

/** Characters of a stranger's text in a message. */
const MAX_SHOWN = 64;

/** The report, or a message that says what is wrong with it. */
export function readReport(value: unknown): Report | string {
  return readMessage(value, REPORT_FIELDS) as Report | string;
}

export function readCommand(value: unknown): Command | string {
  return readMessage(value, COMMAND_FIELDS) as Command | string;
}

function readMessage(value: unknown, table: Readonly<Record<string, Fields>>): object | string {
  if (typeof value !== 'object' || value === null) return 'the message is no JSON object';
  const message = value as Record<string, unknown>;
  const type = message['type'];
  // Never the value as it is: it may be megabytes, or so deep that writing it ends the stack.
  if (typeof type !== 'string') return 'the message has no type';
  if (!Object.hasOwn(table, type)) {
    return `unknown message type ${JSON.stringify(type.slice(0, MAX_SHOWN))}`;
  }
  for (const [name, expected] of Object.entries(table[type] ?? {})) {
    if (!fits(message[name], expected)) return `${type}.${name} is not of type ${expected}`;
  }
  return message;
}

function fits(field: unknown, expected: FieldType): boolean {
  if (expected === 'object or null') return field === null || fits(field, 'object');
  if (expected === 'string or null') return field === null || fits(field, 'string');
  if (expected === 'number or null') return field === null || fits(field, 'number');
  if (expected === 'array') return Array.isArray(field);
  if (expected === 'object') {
    return typeof field === 'object' && field !== null && !Array.isArray(field);
  }
  return typeof field === expected;
}
