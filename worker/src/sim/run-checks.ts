/**
 * The judge of one run. At every checkpoint of the log:
 *   I1 its users are the fold of the events before its positions, parked ones apart
 *   I9 its ledgers balance, and sum to the records before its positions
 * At the end:
 *   I2 every matching event arrived, every refused record is a dead letter
 *   I3 what arrived was due in the attempt that sent it (P32), once per attempt; its body is right
 *   I4 each user's first arrivals are in order
 *   I10 a checkpoint completed within two intervals after healing
 */
import type { StoredObjects } from '../checkpoint/memory-store.ts';
import { SAVEPOINT_METADATA } from '../checkpoint/paths.ts';
import type { Manifest } from '../checkpoint/snapshot.ts';
import type { Receipt, StartedAttempt } from '../rehearsal/honest-repeats.ts';
import { readVolatile } from '../rehearsal/stored-state.ts';
import type { VirtualTime } from '../rehearsal/virtual-time.ts';
import type { Deployment } from '../rpc/messages.ts';
import type { TaskReport } from '../taskmanager/checkpointer.ts';
import { checkBalance, checkState } from './checkpoint-checks.ts';
import { checkDeliveries } from './delivery-checks.ts';
import { Fold } from './fold.ts';
import type { ModelSplit } from './model-log.ts';
import type { Scenario } from './scenario.ts';
import { manifestAt, readLine, recordOf } from './stored-job.ts';

/** What a checkpoint may take beside the two intervals: messages, uploads, a look at the clock. */
const CHECKPOINT_SLACK_MS = 1500;

export interface RunChecksOptions {
  scenario: Scenario;
  splits: readonly ModelSplit[];
  objects: StoredObjects;
  time: VirtualTime;
  hit: (what: string) => void;
  /** false: only what users would see counts, to show that the effects alone give a defect away. */
  ledgers: boolean;
  wasEnded: (attempt: number, subtask: number) => boolean;
}

export class RunChecks {
  /** Versions that any barrier may have brought. */
  readonly scripts = new Set(['v1']);
  /** Names of all objects that a published manifest names. */
  readonly published = new Set<string>();
  readonly #options: RunChecksOptions;
  readonly #fold: Fold;
  readonly #receipts: Receipt[] = [];
  readonly #attempts = new Map<number, StartedAttempt>();
  /** TaskManagers that have got their part of an attempt. */
  readonly #told = new Map<number, Set<string>>();
  readonly #records = new Set<string>();
  readonly #savepoints: { objects: StoredObjects; names: string[] }[] = [];
  #pending: Promise<void>[] = [];
  #newest: Manifest | null = null;
  #healedAt: number | null = null;
  #runningAt = Number.POSITIVE_INFINITY;
  /** Reports after which all tasks run, or have caught up with a replacement. */
  #awaited = { type: 'running', attempt: 0, tasks: 0 };
  #running: readonly number[] = [];
  #calm = false;

  constructor(options: RunChecksOptions) {
    this.#options = options;
    const { ttlMs, historyMaxEvents } = options.scenario.plan.state;
    const { profileMayFail } = options.scenario;
    this.#fold = new Fold(options.splits, { ttlMs, historyMaxEvents, profileMayFail });
  }

  arrived(receipt: Receipt): void {
    this.#receipts.push(receipt);
  }

  healed(): void {
    this.#healedAt = this.#options.time.nowMs;
  }

  /** A new leader took the running tasks over: checkpoints go on from now. */
  adopted(): void {
    this.#runningAt = this.#options.time.nowMs;
  }

  told(report: TaskReport): void {
    const { type, attempt } = this.#awaited;
    if (report.type !== type || (type === 'running' && report.attempt !== attempt)) return;
    if (--this.#awaited.tasks === 0) this.#runningAt = this.#options.time.nowMs;
  }

  /** `late`: the TaskManager stood still or was cut off, and may do what no longer counts. */
  deployed(taskManager: string, command: Deployment, late: boolean): void {
    const { attempt, attempts } = command;
    const highest = Math.max(0, ...this.#attempts.keys());
    const told = this.#told.get(attempt) ?? new Set();
    if ((attempt < highest && !late) || told.has(taskManager)) {
      throw new Error(`P10: attempt ${attempt} after ${highest}`);
    }
    if (attempt < highest) {
      this.#options.hit('deployed: an attempt that is over');
      this.#begin(command);
      return;
    }
    this.#told.set(attempt, told.add(taskManager));
    if (command.tasks.some((task) => task.replaces && task.splits.length > 0)) {
      this.#options.hit('replay: a lost source');
    }
    if (told.size > 1) return;
    const { length: parallelism } = command.ranges;
    const replaces = attempts.some((one) => one < attempt);
    this.#awaited = { type: replaces ? 'caught-up' : 'running', attempt, tasks: parallelism };
    this.#runningAt = Number.POSITIVE_INFINITY;
    this.#running = attempts;
    if (replaces) this.#survivors();
    this.#begin(command);
    const restored = this.#attempts.get(attempt)!.manifest;
    if (restored.parallelism > parallelism) this.#options.hit('restored: fewer subtasks');
    if (restored.parallelism < parallelism) this.#options.hit('restored: more subtasks');
    if (restored.kind === 'initial') this.#options.hit('restored: the initial manifest');
  }

  /** A later attempt was deployed: what this one restores from may be collected (P16). */
  isOver(attempt: number): boolean {
    return attempt < Math.max(0, ...this.#attempts.keys());
  }

  /** Notes what the attempt begins with, by the log. */
  #begin({ attempt, attempts, tasks }: Deployment): void {
    if (this.#attempts.has(attempt)) return;
    const objects = new Map(this.#options.objects);
    const line = readLine(objects);
    const [first] = tasks;
    const restored =
      line.find(({ checkpointId }) => checkpointId === first?.restoredId) ?? line.at(-1)!;
    const started: StartedAttempt = { manifest: restored, parked: new Set(), outbox: new Set() };
    const replaces = attempts.some((one) => one < attempt);
    this.#attempts.set(attempt, started);
    this.#check(async () => {
      const { parked, outbox } = await readVolatile(objects, restored);
      started.parked = parked;
      started.outbox = outbox;
      if (replaces && parked.size > 0) this.#options.hit('replay: parked events restored');
      if (replaces && outbox.size > 0) this.#options.hit('replay: outbox entries restored');
      if (parked.size > 0) this.#options.hit('restored: parked events');
      if (outbox.size > 0) this.#options.hit('restored: outbox entries');
      if (restored.splits.some(({ held }) => held)) this.#options.hit('restored: a held split');
    });
  }

  /** A replacement is over: the tasks that ran on are still those of before. */
  replaced(): void {
    this.#survivors();
    this.#options.hit('replay: survivors ran on');
  }

  #survivors(): void {
    const newest = Math.max(...this.#running);
    for (const [subtask, attempt] of this.#running.entries()) {
      if (attempt < newest && this.#options.wasEnded(attempt, subtask)) {
        throw new Error(`P52: subtask ${subtask} of attempt ${attempt} was not left alone`);
      }
    }
  }

  /** An object was created; a log record may have come into being. */
  created(name: string): void {
    if (!name.startsWith('log/') || this.#records.has(name)) return;
    this.#records.add(name);
    // Inside a call of the code under test, which must not get what is thrown here.
    try {
      this.#recorded(name);
    } catch (fault) {
      this.#options.time.fail(fault);
    }
  }

  #recorded(name: string): void {
    const record = recordOf(this.#options.objects, name);
    this.#options.hit(`log: ${record.kind}`);
    if (record.kind === 'restore') this.#noteRescale(record.reason);
    if (record.kind !== 'checkpoint') return;
    const objects = new Map(this.#options.objects);
    const manifest = manifestAt(objects, record.manifest.name);
    if (manifest === null)
      throw new Error(`the log names ${record.manifest.name}, which is absent`);
    this.#newest = manifest;
    this.#note(manifest);
    this.#timely();
    if (manifest.kind === 'initial') return;
    this.#check(() => this.#judge(objects, manifest));
  }

  async #judge(objects: StoredObjects, manifest: Manifest): Promise<void> {
    const { splits, scenario, ledgers, hit, time } = this.#options;
    const at = time.nowMs;
    const volatile = await readVolatile(objects, manifest);
    if (ledgers) checkBalance(manifest, volatile, splits);
    const limits = scenario.plan.state;
    await checkState({ objects, manifest, at, volatile, fold: this.#fold, limits, hit });
  }

  /** It stands alone from now on, and nobody but who asked for it deletes it (P49). */
  savepointTaken(objects: StoredObjects): void {
    this.#savepoints.push({ objects, names: [...objects.keys()] });
    const { manifest } = JSON.parse(objects.get(SAVEPOINT_METADATA)!.content.toString()) as {
      manifest: Manifest;
    };
    this.#check(async () => {
      await this.#judge(new Map(objects), manifest);
      this.#options.hit('savepoint: as it should be');
    });
  }

  /** The newest checkpoint holds all records, and nothing waits in it. */
  drained(): boolean {
    const { splits } = this.#options;
    if (this.#newest === null || this.#newest.splits.length < splits.length) return false;
    const idle = this.#newest.subtasks.every(
      ({ ledger }) => ledger.parked === 0 && ledger.inOutbox === 0,
    );
    return (
      idle &&
      this.#newest.splits.every(
        ({ split, offset }) => offset > (splits[split.partition]!.records.at(-1)?.offset ?? -1),
      )
    );
  }

  async finished(): Promise<void> {
    await Promise.all(this.#pending);
  }

  final(): void {
    for (const { objects, names } of this.#savepoints) {
      const gone = names.find((name) => !objects.has(name));
      if (gone !== undefined) throw new Error(`P49: ${gone} of a savepoint was deleted`);
    }
    checkDeliveries({
      fold: this.#fold,
      receipts: this.#receipts,
      attempts: this.#attempts,
      scripts: this.scripts,
      hit: this.#options.hit,
    });
  }

  /** I10: after healing, from the moment all tasks run. */
  #timely(): void {
    if (this.#healedAt === null || this.#calm) return;
    this.#calm = true;
    const since = Math.max(this.#healedAt, this.#runningAt);
    const took = this.#options.time.nowMs - since;
    const { intervalMs, minPauseMs } = this.#options.scenario.plan.checkpointing;
    const limit = 2 * Math.max(intervalMs, minPauseMs) + CHECKPOINT_SLACK_MS;
    if (took > limit) throw new Error(`I10: the first checkpoint came after ${took} ms`);
  }

  #noteRescale(reason: string): void {
    const [, from, to] = /^rescale from (\d+) to (\d+)/.exec(reason) ?? [];
    if (from === undefined) return;
    this.#options.hit(Number(to) > Number(from) ? 'rescaled up' : 'rescaled down');
  }

  #note(manifest: Manifest): void {
    const { hit } = this.#options;
    for (const { bases, deltas, ledger } of manifest.subtasks) {
      if (bases.length > 0) hit('manifest: bases');
      if (ledger.parked > 0) hit('manifest: parked events');
      if (ledger.inOutbox > 0) hit('manifest: outbox entries');
      for (const { object, to } of deltas) {
        if (object === null) hit('manifest: an interval without changes');
        else if (to < manifest.checkpointId && !this.published.has(object.name)) {
          hit('manifest: owed delta of an aborted checkpoint');
        }
      }
      for (const { object } of [...bases, ...deltas]) {
        if (object !== null) this.published.add(object.name);
      }
    }
  }

  #check(work: () => Promise<void>): void {
    const done = work().catch((fault: unknown) => this.#options.time.fail(fault));
    this.#pending.push(done);
  }
}
