/**
 * A job of one slot in one process under virtual time: the real SlotTask from source to outbox, its
 * state in memory in place of RocksDB, its checkpoints in a store in memory, and a JobManager of a
 * few lines that takes them and restores from them. A crash ends the slot between two turns, as
 * `kill -9` does; what it had on the wire has arrived or not.
 */
import { decodeManifest, encodeManifest } from '../checkpoint/manifest.ts';
import { MemoryStore, type StoredObjects } from '../checkpoint/memory-store.ts';
import type { Manifest, SubtaskSnapshot } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { scriptVersion } from '../plan/script-version.ts';
import type { ScriptVersion, TaskDeployment } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { MemoryBackend } from '../state/memory-backend.ts';
import type { TaskReport } from '../taskmanager/checkpointer.ts';
import { SlotTask } from '../taskmanager/slot-task.ts';
import { checkRepeats, type StartedAttempt } from './honest-repeats.ts';
import { Seeded } from './seeded.ts';
import { SimProcess } from './sim-process.ts';
import { type Outside, StandInDeadLetter, StandInProfileApi, StandInWebhook } from './stand-ins.ts';
import { type DumpedUser, readUsers, readVolatile } from './stored-state.ts';
import { Topic, TopicReader } from './topic.ts';
import { VirtualTime } from './virtual-time.ts';

/** Virtual time in which a step that asks for no time may go on, ms. */
const SETTLE_LIMIT_MS = 1_000;
const STEP_MS = 60_000;
const BUSY_LIMIT_MS = 3_600_000;
/**
 * Real time for what waits for the machine (compression, temporary files), ms: virtual time stands
 * still meanwhile, so that no run depends on how fast the machine is.
 */
const REAL_LIMIT_MS = 30_000;
const SEED = 1;
const LINEAGE = 'rehearsal';

interface Attempt {
  number: number;
  process: SimProcess;
  task: SlotTask;
  running: boolean;
  /** Records to be processed beside those of the topic: parked ones of the checkpoint. */
  parked: number;
  firstOffset: number;
}

/** What a checkpoint keeps of what the slot gave it; only for tests of the checkers. */
export type Defect = (snapshot: SubtaskSnapshot) => SubtaskSnapshot;

export class RehearsedJob {
  readonly outside: Outside = { profiles: new Map(), webhook: 200, receipts: [] };
  readonly time = new VirtualTime();
  readonly #plan: JobPlan;
  /** The machine's own time; nothing the job does depends on it. */
  readonly #real: Env;
  readonly #defect: Defect;
  readonly #topic: Topic;
  readonly #objects: StoredObjects = new Map();
  readonly #script: ScriptVersion;
  readonly #started = new Map<number, StartedAttempt>();
  readonly #acks = new Map<number, SubtaskSnapshot>();
  #attempt: Attempt | null = null;
  #completed: Manifest | null = null;
  #checkpoints = 0;

  constructor(plan: JobPlan, real: Env, defect: Defect = (snapshot) => snapshot) {
    this.#defect = defect;
    this.#plan = oneSlot(plan);
    this.#real = real;
    const { source, filter } = plan;
    this.#topic = new Topic(source.kind === 'kafka' ? source.topic : source.kind);
    const { language, script: text } = filter;
    this.#script = { version: scriptVersion(language, text), language, text };
  }

  /** Completed checkpoints. */
  get checkpointId(): number {
    return this.#completed?.checkpointId ?? 0;
  }

  async start(): Promise<void> {
    const manifest = this.#completed ?? this.#initial();
    const number = this.#started.size + 1;
    const { parked, outbox } = await readVolatile(this.#objects, manifest);
    this.#started.set(number, { manifest, parked, outbox });
    const process = new SimProcess(`slot-${number}`, 'taskmanager', this.time, new Seeded(SEED), 0);
    const attempt: Attempt = {
      number,
      process,
      task: this.#open(process, number, manifest),
      running: false,
      parked: parked.size,
      firstOffset: manifest.splits[0]!.offset,
    };
    this.#attempt = attempt;
    attempt.task.start().catch((fault: unknown) => this.time.fail(failed(fault)));
    await this.#whileTimeStands(() => attempt.running, 'the slot did not start');
  }

  /** One record now, by the virtual clock. */
  append(value: Buffer): void {
    this.#topic.append(this.time.nowMs, value);
  }

  /** Until nothing is left to do, but no longer than a second. */
  async settle(): Promise<void> {
    await this.time.run(() => this.#isSettled(), SETTLE_LIMIT_MS);
  }

  /**
   * Walks through every timer while there is something to do, at most for an hour, and through the
   * last minute; what lies between is one leap, in which an idle slot would only look at its clock.
   */
  async advance(ms: number): Promise<void> {
    const end = this.time.nowMs + ms;
    for (let walked = 0; walked < BUSY_LIMIT_MS && end - this.time.nowMs > STEP_MS; ) {
      if (this.#isSettled()) break;
      await this.#walk(STEP_MS);
      walked += STEP_MS;
    }
    this.time.nowMs = Math.max(this.time.nowMs, end - STEP_MS);
    await this.#walk(end - this.time.nowMs);
  }

  async #walk(ms: number): Promise<void> {
    const end = this.time.nowMs + ms;
    this.time.after(ms, () => undefined);
    await this.time.run(() => this.time.nowMs >= end, ms);
  }

  /** Takes a checkpoint and completes it; no virtual time passes. */
  async checkpoint(): Promise<void> {
    this.#completed = await this.#take();
  }

  /** The slot dies here, and is started again from the newest checkpoint. */
  async crash(): Promise<void> {
    this.#end();
    await this.start();
  }

  /**
   * The users in state, by a checkpoint that is not completed: what a crash goes back to stays.
   * Those past their TTL are left out, as an event of theirs would find them.
   */
  async users(): Promise<Map<string, DumpedUser>> {
    const manifest = await this.#take();
    const users = await readUsers(this.#objects, manifest);
    const { ttlMs } = this.#plan.state;
    for (const [id, { lastAccess }] of users) {
      if (this.time.nowMs - lastAccess > ttlMs) users.delete(id);
    }
    return users;
  }

  /** I3: how many deliveries were honest repeats; throws for any other. */
  repeats(): number {
    let repeats = 0;
    checkRepeats(this.outside.receipts, this.#started, () => {
      repeats++;
    });
    return repeats;
  }

  /** Idempotent. */
  close(): void {
    this.#end();
  }

  #end(): void {
    const attempt = this.#attempt;
    this.#attempt = null;
    attempt?.process.kill();
    // Only so that nothing of it runs on: what it waits for never comes to a dead process.
    attempt?.task.close().catch(() => undefined);
  }

  #isSettled(): boolean {
    const { task, parked, firstOffset } = this.#attempt!;
    const { recordsProcessed, parked: waiting, outbox } = task.metrics(0);
    const due = parked + this.#topic.records.length - firstOffset;
    return recordsProcessed === due && waiting === 0 && outbox === 0;
  }

  async #take(): Promise<Manifest> {
    const { task, number } = this.#attempt!;
    const checkpointId = ++this.#checkpoints;
    const triggeredAt = this.time.nowMs;
    task.trigger(checkpointId, triggeredAt, this.#script);
    await this.#whileTimeStands(() => this.#acks.has(checkpointId), 'no checkpoint');
    const snapshot = this.#defect(this.#acks.get(checkpointId)!);
    const manifest: Manifest = {
      ...this.#initial(),
      checkpointId,
      kind: 'checkpoint',
      attempt: number,
      triggeredAt,
      completedAt: this.time.nowMs,
      splits: snapshot.splits,
      subtasks: [snapshot],
    };
    // Through its bytes: what is restored is what was stored.
    return decodeManifest(encodeManifest(manifest).content, `checkpoint ${checkpointId}`);
  }

  #initial(): Manifest {
    const { name, namespace, keyBy, maxParallelism } = this.#plan;
    const { split } = this.#topic;
    const at = this.time.nowMs;
    return {
      format: 1,
      checkpointId: 0,
      leaderEpoch: 1,
      kind: 'initial',
      lineage: LINEAGE,
      job: { namespace, name },
      keyBy,
      maxParallelism,
      parallelism: 1,
      attempt: 0,
      triggeredAt: at,
      completedAt: at,
      splits: [{ split, offset: 0, clock: -1 }],
      script: this.#script,
      subtasks: [],
    };
  }

  #open(process: SimProcess, number: number, manifest: Manifest): SlotTask {
    const plan = this.#plan;
    const range = { first: 0, last: plan.maxParallelism - 1 };
    const thread = process.thread();
    const { profileApi } = plan.state;
    const fault = (thrown: unknown) => {
      if (process.alive) this.time.fail(failed(thrown));
    };
    const deployment: TaskDeployment = {
      subtask: 0,
      slot: 0,
      attempt: number,
      range,
      splits: manifest.splits,
      restore: manifest.subtasks,
      restoredId: manifest.checkpointId,
      replaces: false,
    };
    const looked = () => task.discovered(process.now());
    const reader = new TopicReader(this.#topic, thread, looked);
    const task: SlotTask = new SlotTask(
      {
        env: thread.env,
        store: new MemoryStore(thread.env, this.#objects),
        backend: new MemoryBackend(),
        profileApi:
          profileApi === null ? null : new StandInProfileApi(thread, this.outside, profileApi),
        action: new StandInWebhook(thread, this.outside, number, plan.action),
        deadLetter: new StandInDeadLetter(thread, this.outside, number),
        reader,
        openReader: () => Promise.resolve(reader),
        report: (report) => this.#reported(process, report),
        send: (_, frame, to) => thread.awake(() => task.receive(0, frame, to)),
        credit: (_, bytes, to) => thread.awake(() => task.credited(0, bytes, to)),
        fault,
      },
      {
        jobId: LINEAGE,
        lineage: LINEAGE,
        plan,
        script: this.#script,
        ranges: [range],
        attempts: [number],
        task: deployment,
        spoolPath: null,
        mutant: null,
      },
    );
    return task;
  }

  #reported(process: SimProcess, report: TaskReport): void {
    if (!process.alive) return;
    this.time.sign();
    if (report.type === 'running') this.#attempt!.running = true;
    else if (report.type === 'ack') this.#acks.set(report.checkpointId, report.snapshot);
    else if (report.type === 'decline') this.time.fail(failed(report.reason));
  }

  async #whileTimeStands(done: () => boolean, problem: string): Promise<void> {
    const end = this.#real.monotonic() + REAL_LIMIT_MS;
    while (!(await this.time.run(done, 0))) {
      if (this.#real.monotonic() > end) {
        throw new TriggerJobError('REHEARSAL', `${problem} within ${REAL_LIMIT_MS} ms`);
      }
    }
  }
}

function failed(thrown: unknown): TriggerJobError {
  const text = typeof thrown === 'string' ? thrown : messageOf(thrown);
  return new TriggerJobError('REHEARSAL', `the job failed: ${text}`, { cause: thrown });
}

/**
 * All key groups in one slot, from a topic: events are stamped as they come, so users expire by the
 * virtual clock whatever the job's own source is.
 */
function oneSlot(plan: JobPlan): JobPlan {
  const { source } = plan;
  const kafka: JobPlan['source'] =
    source.kind === 'kafka'
      ? source
      : {
          kind: 'kafka',
          connection: { bootstrapServers: [] },
          topic: source.kind,
          groupId: LINEAGE,
          startingOffsets: { kind: 'earliest' },
          discoveryIntervalMs: 1_000,
          discoveryHoldMs: 0,
          maxRecordBytes: source.maxRecordBytes,
        };
  const size = { parallelism: 1, slotsPerTaskManager: 1, taskManagers: 1, jobManagers: 1 };
  return { ...plan, ...size, source: kafka };
}
