/**
 * What the REST API tells about checkpoints: counts, the last ones, and statistics over completed
 * ones.
 */
import type { Manifest, SnapshotFigures, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import type { Bound } from '../runtime/bound.ts';
import { Histogram } from '../runtime/histogram.ts';
import type { CheckpointKind } from './coordinator-model.ts';

/** Entries kept for `history`; Flink's web.checkpoints.history. */
const MAX_HISTORY = 50;
/** Completed checkpoints that the summary covers. */
const MAX_SUMMARY = 1000;

export const CHECKPOINT_SECONDS = [
  0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
] as const;

/** Of a subtask: until its first barrier came, until the last, the turn of the barrier, uploads. */
export type CheckpointPhase = 'start_delay' | 'alignment' | 'sync' | 'async';

export interface CheckpointEntry {
  id: number;
  kind: CheckpointKind;
  status: 'IN_PROGRESS' | 'COMPLETED' | 'FAILED';
  /** Wall time, ms. */
  triggeredAt: number;
  /** Wall time of the last acknowledgement; null before the first. */
  latestAckAt: number | null;
  durationMs: number;
  /** Uploaded for this checkpoint, and all bytes it refers to. */
  checkpointedBytes: number;
  stateBytes: number;
  tasks: number;
  /** Figures alone: whole snapshots of 200 subtasks are some MB per entry. */
  acks: { subtask: number; at: number; figures: SnapshotFigures }[];
  failure: string | null;
  /** Name of the manifest or location of the savepoint. */
  externalPath: string | null;
  /** Name of the manifest in the job's own folder; null = not completed. */
  manifest: string | null;
  discarded: boolean;
}

/** Copied into a folder of its own, which no later checkpoint discards. */
export function isSavepoint({ kind }: Pick<CheckpointEntry, 'kind'>): boolean {
  return kind === 'savepoint' || kind === 'stop';
}

export interface RestoredCheckpoint {
  id: number;
  /** Wall time of the restore, ms. */
  at: number;
  isSavepoint: boolean;
  externalPath: string | null;
}

export interface Summary {
  min: number;
  max: number;
  avg: number;
  p50: number;
  p90: number;
  p95: number;
  p99: number;
  p999: number;
}

interface Figures {
  checkpointedBytes: number;
  stateBytes: number;
  durationMs: number;
}

export class CheckpointHistory {
  readonly #entries: CheckpointEntry[] = [];
  readonly #figures: Figures[] = [];
  /** Since this JobManager leads: of completed checkpoints, and of each subtask's part. */
  readonly seconds = new Histogram(CHECKPOINT_SECONDS);
  readonly phases: Record<CheckpointPhase, Histogram> = {
    start_delay: new Histogram(CHECKPOINT_SECONDS),
    alignment: new Histogram(CHECKPOINT_SECONDS),
    sync: new Histogram(CHECKPOINT_SECONDS),
    async: new Histogram(CHECKPOINT_SECONDS),
  };
  uploadedBytes = 0;
  readonly savepoints = { completed: 0, failed: 0 };
  readonly counts = { restored: 0, total: 0, in_progress: 0, completed: 0, failed: 0 };
  restored: RestoredCheckpoint | null = null;
  latestCompleted: CheckpointEntry | null = null;
  latestFailed: CheckpointEntry | null = null;
  /** The newest one of the leaders before, while this one has completed none. */
  inherited: CheckpointEntry | null = null;
  latestSavepoint: CheckpointEntry | null = null;
  /** Since the last completed one; savepoints do not count. */
  failedInARow = 0;

  /** `savepoint`: where a copy of it lies that the job was stopped with. */
  inherit(manifest: Manifest, name: string, savepoint: string | null): void {
    if (manifest.kind === 'initial') return;
    const { checkpointId: id, triggeredAt, completedAt, subtasks } = manifest;
    const figures = subtasks.map((subtask) => subtask.figures);
    const sum = (of: (figure: SnapshotFigures) => number) =>
      figures.reduce((total, figure) => total + of(figure), 0);
    this.inherited = {
      id,
      kind: savepoint === null ? 'periodic' : 'stop',
      status: 'COMPLETED',
      triggeredAt,
      latestAckAt: completedAt,
      durationMs: completedAt - triggeredAt,
      checkpointedBytes: sum(({ uploadedBytes }) => uploadedBytes),
      stateBytes: sum(({ stateBytes }) => stateBytes),
      tasks: subtasks.length,
      acks: [],
      failure: null,
      externalPath: savepoint ?? name,
      manifest: name,
      discarded: false,
    };
    if (savepoint !== null) this.latestSavepoint = this.inherited;
  }

  triggered(id: number, kind: CheckpointKind, triggeredAt: number, tasks: number): void {
    this.counts.total += 1;
    this.counts.in_progress += 1;
    this.#entries.unshift({
      id,
      kind,
      status: 'IN_PROGRESS',
      triggeredAt,
      latestAckAt: null,
      durationMs: 0,
      checkpointedBytes: 0,
      stateBytes: 0,
      tasks,
      acks: [],
      failure: null,
      externalPath: null,
      manifest: null,
      discarded: false,
    });
    if (this.#entries.length > MAX_HISTORY) this.#entries.pop();
  }

  acknowledged(id: number, snapshot: SubtaskSnapshot, now: number): void {
    const entry = this.find(id);
    if (entry === undefined) return;
    entry.latestAckAt = now;
    entry.durationMs = now - entry.triggeredAt;
    entry.checkpointedBytes += snapshot.figures.uploadedBytes;
    entry.stateBytes += snapshot.figures.stateBytes;
    const { startDelayMs, alignmentMs, syncMs, asyncMs, uploadedBytes } = snapshot.figures;
    this.phases.start_delay.observe(startDelayMs / 1000);
    this.phases.alignment.observe(alignmentMs / 1000);
    this.phases.sync.observe(syncMs / 1000);
    this.phases.async.observe(asyncMs / 1000);
    this.uploadedBytes += uploadedBytes;
    entry.acks.push({ subtask: snapshot.subtask, at: now, figures: snapshot.figures });
  }

  completed(id: number, externalPath: string, now: number): void {
    const entry = this.#end(id, 'COMPLETED', now);
    if (entry === undefined) return;
    entry.externalPath = externalPath;
    entry.manifest = externalPath;
    this.counts.completed += 1;
    this.failedInARow = 0;
    this.latestCompleted = entry;
    this.seconds.observe(entry.durationMs / 1000);
    // Not the entry: its acknowledgements would be kept 1,000 times over.
    const { checkpointedBytes, stateBytes, durationMs } = entry;
    this.#figures.push({ checkpointedBytes, stateBytes, durationMs });
    if (this.#figures.length > MAX_SUMMARY) this.#figures.shift();
  }

  /** The copy of a completed checkpoint in the savepoint directory is done. */
  savepointWritten(id: number, location: string): void {
    const entry = this.find(id);
    if (entry === undefined) return;
    entry.externalPath = location;
    this.savepoints.completed += 1;
    this.latestSavepoint = entry;
  }

  failed(id: number, failure: string, now: number): void {
    const entry = this.#end(id, 'FAILED', now);
    if (entry === undefined) return;
    entry.failure = failure;
    this.counts.failed += 1;
    if (isSavepoint(entry)) this.savepoints.failed += 1;
    else this.failedInARow += 1;
    this.latestFailed = entry;
  }

  restoredFrom(restored: RestoredCheckpoint): void {
    this.restored = restored;
    this.counts.restored += 1;
  }

  /** Checkpoints older than the retained ones are gone from the store. */
  markDiscarded(retained: ReadonlySet<number>): void {
    for (const entry of this.#entries) {
      if (entry.status === 'COMPLETED' && !isSavepoint(entry)) {
        entry.discarded = !retained.has(entry.id);
      }
    }
  }

  find(id: number): CheckpointEntry | undefined {
    return this.#entries.find((entry) => entry.id === id);
  }

  get kept(): Bound {
    return { value: this.#entries.length, limit: MAX_HISTORY };
  }

  get summarized(): Bound {
    return { value: this.#figures.length, limit: MAX_SUMMARY };
  }

  /** Newest first. */
  entries(): readonly CheckpointEntry[] {
    return this.#entries;
  }

  summary(): Record<keyof Figures, Summary> {
    return {
      checkpointedBytes: summarize(this.#figures.map((figure) => figure.checkpointedBytes)),
      stateBytes: summarize(this.#figures.map((figure) => figure.stateBytes)),
      durationMs: summarize(this.#figures.map((figure) => figure.durationMs)),
    };
  }

  #end(id: number, status: 'COMPLETED' | 'FAILED', now: number): CheckpointEntry | undefined {
    const entry = this.find(id);
    if (entry?.status !== 'IN_PROGRESS') return undefined;
    this.counts.in_progress -= 1;
    entry.status = status;
    entry.durationMs = now - entry.triggeredAt;
    return entry;
  }
}

export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return {
    min: sorted[0] ?? 0,
    max: sorted.at(-1) ?? 0,
    avg:
      sorted.length === 0
        ? 0
        : Math.round(sorted.reduce((sum, value) => sum + value, 0) / sorted.length),
    p50: rank(0.5),
    p90: rank(0.9),
    p95: rank(0.95),
    p99: rank(0.99),
    p999: rank(0.999),
  };
}
