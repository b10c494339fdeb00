/** Apache Flink under measurement: one variant of it, seen by REST and its progress file. */
import {
  CAUGHT_UP_WITHIN_MS,
  type Checkpoint,
  type Engine,
  type EngineRun,
  type Launch,
  type Outcome,
  type Processes,
  type Progress,
  type Recovery,
} from './engine.ts';
import { FiredLog } from './fired-log.ts';
import { FlinkCluster } from './flink-cluster.ts';
import { ProgressFile, type ProgressRow } from './flink-progress.ts';
import type { FlinkVariant } from './flink-variants.ts';
import { quantile } from './quantile.ts';
import { RateBins } from './rate-bins.ts';

const KEYED_VERTEX = /UserStateManager/;
/** What a line of progress tells was handled within that time: Progress.java writes each 20 ms. */
const PROGRESS_MS = 50;

interface CheckpointEntry {
  id: number;
  status: string;
  trigger_timestamp: number;
  end_to_end_duration: number;
  checkpointed_size: number;
}

interface SubtaskCheckpoint {
  status: string;
  checkpoint?: { sync: number };
  alignment?: { duration: number };
}

export function flinkEngine(variant: FlinkVariant, classPath: string): Engine {
  return {
    name: variant.name,
    start: async (launch: Launch) => {
      const { setting, service, folder } = launch;
      const posted = setting.webhook ? new FiredLog(folder) : null;
      if (posted !== null) await service.logPostsIn(folder);
      return new FlinkRun(await FlinkCluster.start(classPath, variant, launch), posted);
    },
  };
}

class FlinkRun implements EngineRun {
  readonly startedAt: number;
  readonly handled = new RateBins();
  readonly #cluster: FlinkCluster;
  /** null: a black hole takes what fires. */
  readonly #posted: FiredLog | null;
  #file: ProgressFile;
  #jobId: string | null = null;
  #anomalies = 0;
  /** Of the processes that were killed. */
  #anomaliesBefore = 0;
  #killedAt: number | null = null;
  #recovery: Partial<Recovery> = {};

  constructor(cluster: FlinkCluster, posted: FiredLog | null) {
    this.#cluster = cluster;
    this.startedAt = cluster.startedAt;
    this.#posted = posted;
    this.#file = new ProgressFile(cluster.progressFolder, cluster.taskManagerPid);
  }

  async progress(): Promise<Progress | null> {
    await this.#cluster.assertAlive();
    this.#read();
    const { last } = this.#file;
    return last === null ? null : { at: last.at, processed: last.processed };
  }

  async firstRecordAt(): Promise<number | null> {
    this.#read();
    return this.#file.first?.at ?? null;
  }

  async processes(): Promise<Processes> {
    const { jobManagerPid, taskManagerPid } = this.#cluster;
    return { jobManager: jobManagerPid, taskManager: taskManagerPid };
  }

  async checkpoints(): Promise<Checkpoint[]> {
    return (await this.#completed()).map((one) => ({
      triggeredAt: one.trigger_timestamp,
      durationMs: one.end_to_end_duration,
      uploadedBytes: one.checkpointed_size,
    }));
  }

  /** Alignment + synchronous part of each keyed subtask: at most this long it stood still. */
  async pauseP99Ms(): Promise<number | null> {
    const job = await this.#job();
    const { vertices } = (await this.#cluster.get(`/jobs/${job}`)) as {
      vertices: { id: string; name: string }[];
    };
    const keyed = vertices.find(({ name }) => KEYED_VERTEX.test(name));
    if (keyed === undefined) throw new Error('Flink has no vertex with UserStateManager');
    const pauses: number[] = [];
    for (const { id } of await this.#completed()) {
      const path = `/jobs/${job}/checkpoints/details/${id}/subtasks/${keyed.id}`;
      const { subtasks } = (await this.#cluster.get(path)) as { subtasks: SubtaskCheckpoint[] };
      for (const { checkpoint, alignment } of subtasks) {
        if (checkpoint === undefined) continue;
        pauses.push(checkpoint.sync + Math.max(0, alignment?.duration ?? 0));
      }
    }
    return pauses.length === 0 ? null : quantile(pauses, 0.99);
  }

  async outcome(): Promise<Outcome> {
    this.#read();
    const { counted = 0, fired = 0, firedSum = 0 } = this.#file.last ?? {};
    const anomalies = this.#anomaliesBefore + this.#anomalies;
    const faults = anomalies > 0 ? [`${anomalies} events lost or out of order`] : [];
    if (this.#posted !== null) {
      this.#posted.read();
      const posted = this.#posted.ids;
      if (posted.fired !== fired || posted.firedSum !== firedSum) faults.push('not all is posted');
    }
    return { events: counted, fired, firedSum, faults };
  }

  async killTaskManager(): Promise<number> {
    this.#read();
    this.#anomaliesBefore += this.#anomalies;
    const at = Date.now();
    await this.#cluster.killTaskManager();
    this.#cluster.startTaskManager();
    const { progressFolder, taskManagerPid } = this.#cluster;
    this.#file = new ProgressFile(progressFolder, taskManagerPid);
    this.#killedAt = at;
    this.#anomalies = 0;
    return at;
  }

  async recovery(): Promise<Recovery | null> {
    this.#read();
    const { firstRecordMs, caughtUpMs } = this.#recovery;
    if (firstRecordMs === undefined || caughtUpMs === undefined) return null;
    return { firstRecordMs, caughtUpMs };
  }

  async end(): Promise<void> {
    await this.#cluster.end();
  }

  #read(): void {
    const { last } = this.#file;
    let before: Pick<ProgressRow, 'at' | 'processed'> = last ?? { at: 0, processed: 0 };
    this.#file.read((row) => {
      const from = Math.max(before.at, row.at - PROGRESS_MS);
      this.handled.add(from, row.at, row.processed - before.processed);
      before = row;
      this.#take(row);
    });
  }

  #take({ at, processed, anomalies, timestamps }: ProgressRow): void {
    this.#anomalies = anomalies;
    if (this.#killedAt === null || processed === 0) return;
    const since = at - this.#killedAt;
    this.#recovery.firstRecordMs ??= since;
    const isNew = timestamps.every((timestamp) => at - timestamp < CAUGHT_UP_WITHIN_MS);
    if (isNew) this.#recovery.caughtUpMs ??= since;
  }

  async #job(): Promise<string> {
    if (this.#jobId === null) {
      const { jobs } = (await this.#cluster.get('/jobs')) as { jobs: { id: string }[] };
      this.#jobId = jobs[0]!.id;
    }
    return this.#jobId;
  }

  async #completed(): Promise<CheckpointEntry[]> {
    const answer = await this.#cluster.get(`/jobs/${await this.#job()}/checkpoints`);
    const { history } = answer as { history: CheckpointEntry[] };
    return history.filter(({ status }) => status === 'COMPLETED');
  }
}
