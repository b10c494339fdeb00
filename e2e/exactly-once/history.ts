/**
 * The history of one run: everything the checker saw from outside, as plain data. verdict.ts judges
 * it, judge.ts judges it again from its file. Nothing here comes from worker/: the checker would
 * otherwise mark the pipeline's work with the pipeline's own eyes.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';

/**
 * One record that the broker acknowledged. `seq` is 1, 2, 3, ... per user; -1 for a poison record.
 */
export interface Acked {
  user: string;
  seq: number;
  partition: number;
  offset: number;
  /** Kafka's record timestamp, ms. */
  timestamp: number;
  /** The value; of a poison record its bytes in base64. */
  raw: string;
  ackedAt: number;
}

/** One request that reached the webhook receiver whole. Times in ms since the epoch. */
export interface Receipt {
  at: number;
  /** When its connection was opened: tells which TaskManager process sent it. */
  openedAt: number;
  /** Address that sent it; '' or none: not known. */
  from?: string;
  /** Status that was answered, and when; null: hung or cut. */
  status: number | null;
  answeredAt: number | null;
  id: string;
  ceId: string | null;
  user: string;
  seq: number;
  /** sha256 of the body, hex. */
  sha: string;
  bytes: number;
}

/**
 * The three parts the Profile API served for one user; a user can have several if its answer
 * varies.
 */
export interface ServedUser {
  profile: string;
  visit: string;
  history: string[];
}

export interface LedgerFact {
  subtask: number;
  accepted: number;
  noMatch: number;
  delivered: number;
  deadLettered: number;
  parked: number;
  inOutbox: number;
}

/** What the checker reads from a manifest, as plain JSON. */
export interface CheckpointFact {
  checkpointId: number;
  kind: string;
  triggeredAt: number;
  completedAt: number;
  /** Next offset by Kafka partition. */
  positions: Record<string, number>;
  ledgers: LedgerFact[];
  /** Version of the filter script that the tasks switched to at this barrier. */
  scriptVersion: string | null;
}

export type Phase = 'barrier' | 'upload' | 'manifest' | 'before-notify';
export const PHASES: readonly Phase[] = ['barrier', 'upload', 'manifest', 'before-notify'];

/**
 * What ended an attempt: a SIGKILL of a TaskManager, or SIGSTOP for so long that the others give it
 * up, a rescale, or a network that was cut (their `pid` is 0).
 */
export interface Kill {
  at: number;
  pid: number;
  /** The attempt that ran then, as the pipeline counts. */
  attempt: number;
  reason: 'random' | 'freeze' | 'rescale' | 'partition' | Phase;
  /**
   * When the job's log says that this attempt was over everywhere: the other TaskManagers work on
   * for a while. null = with the kill.
   */
  endedAt: number | null;
  /** SIGCONT after a freeze; null: it was killed. */
  resumedAt: number | null;
  /**
   * Nobody could tell these addresses that the attempt was over: until then (ms since the epoch)
   * what they open connections for is of it.
   */
  cut?: { addresses: readonly string[]; until: number };
  /** For a phase: how long after the phase's log line the signal was sent, ms. */
  lateMs: number | null;
  /** Checkpoint that the job came back from; null = the initial manifest or nothing. */
  restored: number | null;
}

export interface SubtaskSample {
  subtask: number;
  attempt: number;
  cpuSeconds: number;
  recordsRead: number;
  recordsProcessed: number;
  divergent: number;
  usersCached: number;
}

/** One look at GET /api/v1/details. */
export interface Sample {
  at: number;
  state: string;
  pid: number;
  /** All that are registered; `pid` is the first one's. `tasks`: slots in use. */
  taskManagers: { pid: number; tasks: number }[];
  restarts: number;
  /** Times that lost tasks were replaced alone; null: they are being replaced now. */
  replaced: number | null;
  restored: number | null;
  lastCheckpoint: number | null;
  ledgerImbalance: number;
  parked: number;
  outbox: number;
  lag: number;
  rssBytes: number;
  subtasks: SubtaskSample[];
}

export interface Meta {
  name: string;
  seed: number;
  /** null: the state was not dumped in this run. */
  dump: string[] | null;
  historyLimit: number;
  slots: number;
  taskManagers: number;
  /** Kills that the run must have to be evidence; null where it is about another fault. */
  need: { kills: number; freezes?: number; phases: readonly Phase[] } | null;
  /** Deliveries that ended in the dead letter, by `user/seq`: no receipt with 2xx is needed. */
  deadLettered: string[];
}

export interface History {
  meta: Meta;
  acked: Acked[];
  receipts: Receipt[];
  served: Record<string, ServedUser[]>;
  checkpoints: CheckpointFact[];
  kills: Kill[];
  samples: Sample[];
}

/** Writes the history as gzipped NDJSON, one `[kind, value]` per line. */
export async function saveHistory(file: string, history: History): Promise<void> {
  function* lines(): Generator<string> {
    const line = (kind: string, value: unknown) => `${JSON.stringify([kind, value])}\n`;
    yield line('meta', history.meta);
    for (const entry of Object.entries(history.served)) yield line('served', entry);
    for (const value of history.acked) yield line('acked', value);
    for (const value of history.receipts) yield line('receipts', value);
    for (const value of history.checkpoints) yield line('checkpoints', value);
    for (const value of history.kills) yield line('kills', value);
    for (const value of history.samples) yield line('samples', value);
  }
  await pipeline(Readable.from(lines()), createGzip(), createWriteStream(file));
}

export async function loadHistory(file: string): Promise<History> {
  const history: Omit<History, 'meta'> & { meta: Meta | null } = {
    meta: null,
    acked: [],
    receipts: [],
    served: {},
    checkpoints: [],
    kills: [],
    samples: [],
  };
  const text = createReadStream(file).pipe(createGunzip());
  for await (const line of createInterface({ input: text, crlfDelay: Number.POSITIVE_INFINITY })) {
    const [kind, value] = JSON.parse(line);
    if (kind === 'meta') history.meta = value;
    else if (kind === 'served') history.served[value[0]] = value[1];
    else history[kind as 'acked' | 'receipts' | 'checkpoints' | 'kills' | 'samples'].push(value);
  }
  if (history.meta === null) throw new Error(`${file} has no meta line: not a history file`);
  return { ...history, meta: history.meta };
}
