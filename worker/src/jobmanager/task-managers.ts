/**
 * The TaskManagers this leader knows: registration, heartbeats, loss. A TaskManager is lost when
 * its connection closes or when nothing came from it for `heartbeatTimeoutMs`; either way its
 * connection is closed, so that a process that only hung can't come back under the old
 * registration.
 */
import type { Logger } from 'pino';
import { MAX_QUEUED_BYTES } from '../rpc/connection.ts';
import type { Command, Report, RunningAttempt, TaskManagerMetrics } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import type { TaskManagerConnection } from '../rpc/server.ts';
import type { Bound } from '../runtime/bound.ts';
import { CpuMeter } from '../runtime/cpu-meter.ts';
import { type Env, sleep, type Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { LogText } from '../runtime/log-tail.ts';

/** Looks at heartbeats this often within one timeout. */
const CHECKS_PER_TIMEOUT = 4;
/** How long they may take to end after `shutdown`. */
const SHUTDOWN_LIMIT_MS = 10_000;
const SHUTDOWN_POLL_MS = 20;
/** A TaskManager that lives and says nothing of its log: it deploys, or its disk hangs. */
const LOG_LIMIT_MS = 2_000;

export interface TaskManager {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly slots: number;
  /** Its shuffle port, for its peers. */
  readonly shuffle: { host: string; port: number };
  /** Wall time, ms. */
  readonly registeredAt: number;
  /** Monotonic, ms. */
  lastHeardAt: number;
  metrics: TaskManagerMetrics | null;
  /** Of its process. */
  readonly cpu: CpuMeter;
  /** What it ran when it registered, kept current until the attempt is adopted or given up. */
  readonly running: RunningAttempt | null;
  /** false: the connection is gone; `onLost` follows or has come. */
  send(command: Command): boolean;
}

export interface TaskManagerEvents {
  onRegistered(taskManager: TaskManager): void;
  /** Everything but `register`. */
  onReport(taskManager: TaskManager, report: Report): void;
  onLost(taskManager: TaskManager, reason: string): void;
  /** Whether one may come with its running tasks; otherwise it ends them first (P45). */
  admits(running: RunningAttempt): boolean;
  /** It has heard a leader of a higher epoch: this one has to look into the log. */
  onNewerLeader(leaderEpoch: number): void;
  /** For the answers to heartbeats. */
  discoveredAt(): number | null;
  /** This process stood still for so long that its TaskManagers have given it up. */
  onStoodStill(ms: number): void;
}

interface Member extends TaskManager {
  readonly connection: TaskManagerConnection;
  /** Attempt whose end is awaited before it may be given work; null = it is at hand. */
  ending: number | null;
  /** Who has asked for its log. */
  readonly wantLog: ((log: LogText | null) => void)[];
}

export class TaskManagers {
  readonly #env: Env;
  readonly #log: Logger;
  readonly #leaderEpoch: number;
  readonly #timeoutMs: number;
  readonly #events: TaskManagerEvents;
  readonly #members = new Map<string, Member>();
  #timer: Timer | null = null;
  #ending = false;
  #closed = false;

  constructor(
    deps: { env: Env; log: Logger; leaderEpoch: number; heartbeatTimeoutMs: number },
    events: TaskManagerEvents,
  ) {
    this.#env = deps.env;
    this.#log = deps.log;
    this.#leaderEpoch = deps.leaderEpoch;
    this.#timeoutMs = deps.heartbeatTimeoutMs;
    this.#events = events;
    this.#schedule();
  }

  /** In order of registration. */
  all(): TaskManager[] {
    return [...this.#members.values()];
  }

  get slots(): number {
    return this.all().reduce((sum, member) => sum + member.slots, 0);
  }

  /** Bytes that wait for the TaskManager furthest behind. */
  get queued(): Bound {
    const waiting = [...this.#members.values()].map(({ connection }) => connection.queuedBytes);
    return { value: Math.max(0, ...waiting), limit: MAX_QUEUED_BYTES };
  }

  broadcast(command: Command): void {
    for (const member of this.all()) member.send(command);
  }

  /**
   * Tells all of them to end, and waits for that, but not for ever. One whose connection closes
   * from now on did as it was told.
   */
  async shutdown(): Promise<void> {
    this.#ending = true;
    this.broadcast({ type: 'shutdown', leaderEpoch: this.#leaderEpoch });
    const until = this.#env.monotonic() + SHUTDOWN_LIMIT_MS;
    while (this.#members.size > 0 && this.#env.monotonic() < until) {
      await sleep(this.#env, SHUTDOWN_POLL_MS);
    }
  }

  /** Its first message must be `register`, within one heartbeat timeout. */
  accept(connection: TaskManagerConnection): void {
    if (this.#closed) {
      connection.close();
      return;
    }
    let member: Member | null = null;
    const late = this.#env.timer(this.#timeoutMs, () => {
      const text =
        member === null ? 'no register came in time' : 'its old tasks did not end in time';
      connection.close(new TriggerJobError('RPC_NOT_REGISTERED', text));
    });
    connection.onClose((error) => {
      late.cancel();
      if (member === null || member.ending !== null) return;
      if (this.#ending) this.#ended(member);
      else this.#lose(member, error === null ? 'connection closed' : messageOf(error));
    });
    connection.onMessage((report) => {
      if (member === null) {
        member = this.#register(connection, report);
        if (member?.ending === null) late.cancel();
      } else if (member.ending === null) {
        this.#heard(member, report);
      } else if (report.type === 'canceled' && report.attempt === member.ending) {
        late.cancel();
        this.#admit(member);
      }
    });
  }

  /** Drops one that no longer does what it is told. */
  drop(taskManager: TaskManager, reason: string): void {
    const member = this.#members.get(taskManager.id);
    if (member === taskManager) this.#lose(member, reason);
  }

  /** The newest lines of its log. Rejects with TASKMANAGER_SILENT; asks once for all who ask. */
  async logOf(id: string): Promise<LogText> {
    const member = this.#members.get(id);
    const { promise, resolve } = Promise.withResolvers<LogText | null>();
    const limit = this.#env.timer(LOG_LIMIT_MS, () => resolve(null));
    if (member?.wantLog.push(resolve) === 1) {
      member.send({ type: 'tell-log', leaderEpoch: this.#leaderEpoch });
    }
    const log = await promise;
    limit.cancel();
    if (log !== null) return log;
    // The next one who asks must not wait for the answer to this one.
    member?.wantLog.splice(0);
    throw new TriggerJobError('TASKMANAGER_SILENT', `${id} tells nothing of its log`);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #register(connection: TaskManagerConnection, report: Report): Member | null {
    const refusal = this.#refusal(report);
    if (report.type !== 'register' || refusal !== null) {
      const { reason, code } = refusal ?? { reason: 'no register', code: 'unfit' as const };
      this.#log.warn({ remote: connection.remote, reason }, 'refused a TaskManager');
      connection.send({ type: 'refused', reason, code, leader: null });
      connection.close();
      return null;
    }
    const { running } = report;
    const foreign = running !== null && !this.#events.admits(running);
    const member: Member = {
      id: report.taskManagerId,
      host: report.host,
      pid: report.pid,
      slots: report.slots,
      shuffle: { host: report.shuffleHost, port: report.shufflePort },
      registeredAt: this.#env.now(),
      lastHeardAt: this.#env.monotonic(),
      metrics: null,
      cpu: new CpuMeter(),
      running: foreign ? null : running,
      ending: foreign ? running.attempt : null,
      wantLog: [],
      connection,
      send: (command) => connection.send(command),
    };
    const leaderEpoch = this.#leaderEpoch;
    const taskManagerId = member.id;
    connection.send({ type: 'registered', version: RPC_VERSION, leaderEpoch, taskManagerId });
    if (!foreign) {
      this.#admit(member);
      return member;
    }
    this.#log.info({ taskManager: member.id, attempt: running.attempt }, 'its tasks are given up');
    connection.send({ type: 'cancel', leaderEpoch, attempt: running.attempt });
    return member;
  }

  #refusal(report: Report): { reason: string; code: 'standby' | 'unfit' } | null {
    const unfit = (reason: string) => ({ reason, code: 'unfit' as const });
    if (report.type !== 'register') return unfit(`the first message is ${report.type}`);
    if (report.version !== RPC_VERSION) {
      return unfit(`RPC version ${report.version}, this JobManager speaks ${RPC_VERSION}`);
    }
    if (!Number.isInteger(report.slots) || report.slots < 1) return unfit('it has no slot');
    if (report.leaderEpoch <= this.#leaderEpoch) return null;
    this.#events.onNewerLeader(report.leaderEpoch);
    return { reason: `epoch ${report.leaderEpoch} leads`, code: 'standby' };
  }

  #admit(member: Member): void {
    const twin = this.#members.get(member.id);
    if (twin !== undefined) this.#lose(twin, 'it registered again on a new connection');
    member.ending = null;
    member.lastHeardAt = this.#env.monotonic();
    this.#members.set(member.id, member);
    const { id: taskManager, slots, running } = member;
    const attempt = running?.attempt ?? null;
    this.#log.info({ taskManager, slots, attempt }, 'TaskManager registered');
    this.#events.onRegistered(member);
  }

  #heard(member: Member, report: Report): void {
    if (this.#members.get(member.id) !== member) return;
    member.lastHeardAt = this.#env.monotonic();
    if (report.type === 'heartbeat') {
      member.metrics = report.metrics;
      member.cpu.add(report.metrics.cpuSeconds, member.lastHeardAt);
      const discoveredAt = this.#events.discoveredAt();
      member.connection.send({ type: 'alive', leaderEpoch: this.#leaderEpoch, discoveredAt });
    }
    if (report.type === 'log') {
      for (const tell of member.wantLog.splice(0)) tell(report.log);
      return;
    }
    noteReport(member.running, report);
    if (report.type !== 'register') this.#events.onReport(member, report);
  }

  #ended(member: Member): void {
    if (this.#members.get(member.id) !== member) return;
    this.#members.delete(member.id);
    if (!this.#closed) this.#log.info({ taskManager: member.id }, 'TaskManager ended');
  }

  #lose(member: Member, reason: string): void {
    if (this.#members.get(member.id) !== member) return;
    this.#members.delete(member.id);
    member.connection.close(new TriggerJobError('TASKMANAGER_LOST', reason));
    if (this.#closed) return;
    this.#log.warn({ taskManager: member.id, reason }, 'TaskManager lost');
    this.#events.onLost(member, reason);
  }

  #schedule(): void {
    const delayMs = this.#timeoutMs / CHECKS_PER_TIMEOUT;
    const dueAt = this.#env.monotonic() + delayMs;
    this.#timer = this.#env.timer(delayMs, () => {
      const now = this.#env.monotonic();
      // Nobody was silent but we: a restart of the job would be the wrong answer.
      if (now - dueAt > this.#timeoutMs) {
        this.#events.onStoodStill(Math.round(now - dueAt));
        return;
      }
      for (const member of this.#members.values()) {
        const silentMs = Math.round(now - member.lastHeardAt);
        if (silentMs > this.#timeoutMs) this.#lose(member, `no heartbeat for ${silentMs} ms`);
      }
      if (!this.#closed) this.#schedule();
    });
  }
}

/** What happens to the tasks between the registration and the leader's verdict on them. */
function noteReport(running: RunningAttempt | null, report: Report): void {
  if (running === null || !('attempt' in report) || report.attempt !== running.attempt) return;
  if (report.type === 'peer-lost') running.lostPeers.push(report.peer);
  if (report.type !== 'running' && report.type !== 'drained') return;
  const task = running.tasks.find(({ subtask }) => subtask === report.subtask);
  if (task === undefined) return;
  if (report.type === 'running') task.running = true;
  if (report.type !== 'drained') return;
  task.taken = Math.max(task.taken, report.checkpointId);
  task.drained = true;
}
