/**
 * The TaskManagers of `control-plane.ts`: many in one process, each with a real RPC connection,
 * messages of real size, and an acknowledgement the moment a trigger comes. They keep no state, but
 * their segments are there as empty files, so that the garbage collector has as much to list.
 */
import { mkdirSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { segmentPath } from '../worker/src/checkpoint/paths.ts';
import type { ObjectRef, SubtaskSnapshot } from '../worker/src/checkpoint/snapshot.ts';
import { RpcClient } from '../worker/src/rpc/client.ts';
import { noTallies } from '../worker/src/rpc/figures.ts';
import {
  type Command,
  RPC_VERSION,
  type SubtaskMetrics,
  type TaskDeployment,
} from '../worker/src/rpc/messages.ts';
import { realEnv } from '../worker/src/runtime/env.ts';
import { noHistograms } from '../worker/src/runtime/histogram.ts';
import { type FleetMessage, type FleetSettings, wallClock } from './control-plane-messages.ts';

interface Task {
  deployment: TaskDeployment;
  deltas: SubtaskSnapshot['deltas'];
  bases: SubtaskSnapshot['bases'];
  lastId: number;
}

const counts = { sent: 0, received: 0, ackBytes: 0, heartbeatBytes: 0 };
const SHA256 = 'b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c';
/** Names that the parts of a slot give to their figures, about as many as slot-metrics.ts sends. */
const EXTRA_NAMES = 60;

/** Of all subtasks: when the first trigger came and the last acknowledgement went. */
class AckWatch {
  readonly #subtasks: number;
  #id = 0;
  #first = 0;
  #left = 0;

  constructor(subtasks: number) {
    this.#subtasks = subtasks;
  }

  trigger(checkpointId: number): void {
    if (checkpointId === this.#id) return;
    this.#id = checkpointId;
    this.#first = wallClock();
    this.#left = this.#subtasks;
  }

  sent(): void {
    this.#left -= 1;
    if (this.#left > 0) return;
    const [checkpointId, firstTriggerAt, lastAckAt] = [this.#id, this.#first, wallClock()];
    tell({ type: 'acked', checkpointId, firstTriggerAt, lastAckAt });
  }
}

class SimulatedTaskManager {
  readonly #id: string;
  readonly #client: RpcClient;
  readonly #settings: FleetSettings;
  readonly #watch: AckWatch;
  readonly #tasks: Task[] = [];
  #beats = 0;

  private constructor(id: string, client: RpcClient, settings: FleetSettings, watch: AckWatch) {
    this.#id = id;
    this.#client = client;
    this.#settings = settings;
    this.#watch = watch;
  }

  static async start(index: number, settings: FleetSettings, watch: AckWatch): Promise<void> {
    const address = { host: '127.0.0.1', port: settings.rpcPort, timeoutMs: 10_000 };
    const client = await RpcClient.connect(realEnv, address);
    const id = `user-events-taskmanager-${String(index).padStart(2, '0')}`;
    const own = new SimulatedTaskManager(id, client, settings, watch);
    client.onCommand((command) => own.#on(command));
    client.onClose((error) => {
      console.error(`TaskManager ${id} was cut off: ${error?.message ?? 'closed'}`);
      process.exit(1);
    });
    const shuffle = { shuffleHost: '127.0.0.1', shufflePort: 1 };
    const { slots } = settings;
    const facts = { taskManagerId: id, host: '127.0.0.1', pid: process.pid, slots, ...shuffle };
    const news = { leaderEpoch: 0, running: null };
    client.send({ type: 'register', version: RPC_VERSION, ...facts, ...news });
    // Spread over the second, as those of processes that started by themselves are.
    const { heartbeatMs, taskManagers } = settings;
    setTimeout(
      () => setInterval(() => own.#beat(), heartbeatMs),
      (index * heartbeatMs) / taskManagers,
    );
  }

  #on(command: Command): void {
    counts.received += 1;
    if (command.type === 'deploy') this.#deploy(command.tasks);
    if (command.type === 'trigger') this.#ack(command);
    if (command.type === 'cancel') throw new Error('the job restarts');
  }

  #deploy(tasks: readonly TaskDeployment[]): void {
    for (const deployment of tasks) {
      const { attempt, subtask } = deployment;
      this.#tasks.push({ deployment, deltas: [], bases: [], lastId: 0 });
      const folder = dirname(segmentPath({ ...NO_SEGMENT, attempt, subtask }));
      mkdirSync(join(this.#settings.folder, folder), { recursive: true });
      this.#client.send({
        type: 'running',
        taskManagerId: this.#id,
        attempt,
        subtask,
        restoreMs: 812,
      });
      counts.sent += 1;
    }
  }

  #ack({ checkpointId, script }: Command & { type: 'trigger' }): void {
    this.#watch.trigger(checkpointId);
    for (const task of this.#tasks) {
      const { attempt } = task.deployment;
      const snapshot = this.#snapshot(task, checkpointId, script);
      const taskManagerId = this.#id;
      this.#client.send({ type: 'ack', taskManagerId, attempt, checkpointId, snapshot });
      counts.sent += 1;
      this.#watch.sent();
      if (counts.ackBytes === 0) counts.ackBytes = JSON.stringify(snapshot).length;
    }
  }

  /** The chain moves on by one delta; what falls out of it is replaced by the bases. */
  #snapshot(task: Task, checkpointId: number, script: SubtaskSnapshot['script']): SubtaskSnapshot {
    const { deployment, lastId } = task;
    const { range, subtask, attempt } = deployment;
    const file = (kind: 'delta' | 'base' | 'volatile', n: number) =>
      this.#object(segmentPath({ attempt, checkpointId, subtask, kind, n, nonce: realEnv.id() }));
    // A full chain at once: the first interval comes in many runs.
    const runs = lastId === 0 ? this.#settings.deltas : 1;
    for (let run = 0; run < runs; run++) {
      const object = file('delta', run);
      task.deltas.push({ range, from: lastId, to: checkpointId, run, object });
    }
    const dropped = task.deltas.slice(0, -this.#settings.deltas);
    task.deltas = task.deltas.slice(-this.#settings.deltas);
    this.#forget(dropped.flatMap(({ object }) => object ?? []));
    const epoch = task.deltas[0]!.to;
    if (task.bases.length === 0) {
      for (let group = range.first; group <= range.last; group++) {
        task.bases.push({ groups: [group], epoch, object: file('base', group) });
      }
    }
    task.bases = task.bases.map((base) => ({ ...base, epoch }));
    task.lastId = checkpointId;
    const splits = deployment.splits.map((position, i) => ({
      ...position,
      offset: checkpointId * 1_000_003 + i,
      clock: 1_790_000_000_000 + checkpointId,
    }));
    const { bases, deltas } = task;
    const volatile = file('volatile', 0);
    const parts = { subtask, attempt, range, bases, deltas, volatile, splits, script };
    return { ...parts, ledger: LEDGER, figures: FIGURES };
  }

  #object(name: string): ObjectRef {
    const path = join(this.#settings.folder, name);
    // Later, so that the acknowledgement is not about this file system.
    setTimeout(() => void writeFile(path, ''), 300);
    return { name, bytes: 1_234_567, sha256: SHA256 };
  }

  #forget(objects: readonly ObjectRef[]): void {
    for (const { name } of objects) {
      setTimeout(() => void rm(join(this.#settings.folder, name), { force: true }), 1_000);
    }
  }

  #beat(): void {
    this.#beats += 1;
    const report = {
      type: 'heartbeat',
      taskManagerId: this.#id,
      leaderEpoch: 1,
      metrics: {
        rssBytes: 3_456_789_012,
        cpuSeconds: 1234.567 + this.#beats,
        heapBytes: 812_345_678,
        heapTotalBytes: 912_345_678,
        externalBytes: 212_345_678,
        memoryLimitBytes: 8_589_934_592,
        cores: 4,
        eventLoopLagP99Ms: 1.234,
        system: SYSTEM,
        subtasks: this.#tasks.map(({ deployment }) => metrics(deployment, this.#beats)),
        shuffle: {
          links: 49,
          bytesSent: 123_456_789 * this.#beats,
          framesSent: 45_678 * this.#beats,
          queuedBytes: 65_536,
          staleFrames: 0,
        },
      },
    } as const;
    counts.heartbeatBytes = JSON.stringify(report).length;
    this.#client.send(report);
    counts.sent += 1;
  }
}

const NO_SEGMENT = { checkpointId: 1, kind: 'delta', n: 0, nonce: '0' } as const;
const LEDGER = {
  accepted: 123_456_789,
  noMatch: 120_000_000,
  delivered: 3_456_000,
  deadLettered: 700,
  parked: 12,
  inOutbox: 77,
};

const FIGURES = {
  alignmentMs: 12.345,
  syncMs: 3.21,
  asyncMs: 234.567,
  startDelayMs: 4.56,
  uploadedBytes: 12_345_678,
  stateBytes: 1_234_567_890,
  users: 512_345,
};

const SYSTEM = {
  readBytes: 1_234_567_890,
  writtenBytes: 9_876_543_210,
  network: [{ device: 'eth0', receivedBytes: 123_456_789_012, sentBytes: 123_456_789_012 }],
  diskFreeBytes: 81_234_567_890,
  diskBytes: 107_374_182_400,
};

const COUNTED = [
  'recordsRead',
  'recordsProcessed',
  'bytesRead',
  'matched',
  'delivered',
  'deadLettered',
  'filterErrors',
  'profileRequests',
  'profileErrors',
  'cacheHits',
  'cacheMisses',
  'expired',
  'truncatedEvents',
  'divergent',
  'busyMs',
  'backPressuredMs',
  'idleMs',
  'pauseCount',
] as const;

function metrics({ subtask, attempt, slot }: TaskDeployment, beats: number): SubtaskMetrics {
  const counted = Object.fromEntries(COUNTED.map((name, i) => [name, beats * (1_003 + i)]));
  const extra = Object.fromEntries(
    Array.from({ length: EXTRA_NAMES }, (_, i) => [`rocksdb_figure_number_${i}`, beats * i * 17]),
  );
  return {
    ...(counted as Record<(typeof COUNTED)[number], number>),
    subtask,
    attempt,
    slot,
    cpuSeconds: beats * 0.87,
    parked: 12,
    outbox: 77,
    outboxBytes: 1_234_567,
    usersCached: 45_678,
    users: 512_345,
    stateBytes: 1_234_567_890,
    cacheBytes: 204_800_000,
    pendingRecords: 12_345,
    recordsLagMax: 4_321,
    emitEventTimeLagMs: 40,
    openSplits: 5,
    ledger: LEDGER,
    ledgerImbalance: 0,
    restoreMs: 812,
    pauseP99Ms: 4.56,
    pauseMaxMs: 9.87,
    tallies: noTallies(),
    histograms: noHistograms(),
    eventLoopLagP99Ms: 1.234,
    extra,
  };
}

function tell(message: FleetMessage): void {
  process.send?.(message);
}

async function main(settings: FleetSettings): Promise<void> {
  const { taskManagers, slots } = settings;
  const watch = new AckWatch(taskManagers * slots);
  await Promise.all(
    Array.from({ length: taskManagers }, (_, i) => SimulatedTaskManager.start(i, settings, watch)),
  );
  tell({ type: 'running' });
  process.on('message', () => {
    tell({ type: 'counts', ...counts });
  });
}

process.on('disconnect', () => process.exit(1));
await main(JSON.parse(process.argv[2] ?? '') as FleetSettings);
