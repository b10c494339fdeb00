/**
 * The TaskManagers this leader knows: registration, heartbeats, loss. A TaskManager is lost when
 * its connection closes or when nothing came from it for `heartbeatTimeoutMs`; either way its
 * connection is closed, so that a process that only hung can't come back under the old
 * registration.
 */
import type { Logger } from 'pino';
import { MAX_QUEUED_BYTES } from '../rpc/connection.ts';
import type { Command, Report, TaskManagerMetrics } from '../rpc/messages.ts';
import { RPC_VERSION } from '../rpc/messages.ts';
import type { TaskManagerConnection } from '../rpc/server.ts';
import type { Bound } from '../runtime/bound.ts';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

/** Looks at heartbeats this often within one timeout. */
const CHECKS_PER_TIMEOUT = 4;

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
  /** false: the connection is gone; `onLost` follows or has come. */
  send(command: Command): boolean;
}

export interface TaskManagerEvents {
  onRegistered(taskManager: TaskManager): void;
  /** Everything but `register`. */
  onReport(taskManager: TaskManager, report: Report): void;
  onLost(taskManager: TaskManager, reason: string): void;
}

interface Member extends TaskManager {
  readonly connection: TaskManagerConnection;
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

  /** Tells all of them to end. One whose connection closes from now on did as it was told. */
  shutdown(): void {
    this.#ending = true;
    this.broadcast({ type: 'shutdown', leaderEpoch: this.#leaderEpoch });
  }

  /** Its first message must be `register`, within one heartbeat timeout. */
  accept(connection: TaskManagerConnection): void {
    if (this.#closed) {
      connection.close();
      return;
    }
    let member: Member | null = null;
    const late = this.#env.timer(this.#timeoutMs, () => {
      connection.close(new TriggerJobError('RPC_NOT_REGISTERED', 'no register came in time'));
    });
    connection.onClose((error) => {
      late.cancel();
      if (member === null) return;
      if (this.#ending) this.#ended(member);
      else this.#lose(member, error === null ? 'connection closed' : messageOf(error));
    });
    connection.onMessage((report) => {
      if (member !== null) {
        this.#heard(member, report);
        return;
      }
      late.cancel();
      member = this.#register(connection, report);
    });
  }

  /** Drops one that no longer does what it is told. */
  drop(taskManager: TaskManager, reason: string): void {
    const member = this.#members.get(taskManager.id);
    if (member === taskManager) this.#lose(member, reason);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #register(connection: TaskManagerConnection, report: Report): Member | null {
    const refuse = (reason: string): null => {
      this.#log.warn({ remote: connection.remote, reason }, 'refused a TaskManager');
      connection.send({ type: 'refused', reason });
      connection.close();
      return null;
    };
    if (report.type !== 'register') return refuse(`the first message is ${report.type}`);
    if (report.version !== RPC_VERSION) {
      return refuse(`RPC version ${report.version}, this JobManager speaks ${RPC_VERSION}`);
    }
    if (!Number.isInteger(report.slots) || report.slots < 1) return refuse('it has no slot');
    const twin = this.#members.get(report.taskManagerId);
    if (twin !== undefined) this.#lose(twin, 'it registered again on a new connection');
    const member: Member = {
      id: report.taskManagerId,
      host: report.host,
      pid: report.pid,
      slots: report.slots,
      shuffle: { host: report.shuffleHost, port: report.shufflePort },
      registeredAt: this.#env.now(),
      lastHeardAt: this.#env.monotonic(),
      metrics: null,
      connection,
      send: (command) => connection.send(command),
    };
    this.#members.set(member.id, member);
    connection.send({
      type: 'registered',
      version: RPC_VERSION,
      leaderEpoch: this.#leaderEpoch,
      taskManagerId: member.id,
    });
    this.#log.info({ taskManager: member.id, slots: member.slots }, 'TaskManager registered');
    this.#events.onRegistered(member);
    return member;
  }

  #heard(member: Member, report: Report): void {
    if (this.#members.get(member.id) !== member) return;
    member.lastHeardAt = this.#env.monotonic();
    if (report.type === 'heartbeat') member.metrics = report.metrics;
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
    this.#timer = this.#env.timer(this.#timeoutMs / CHECKS_PER_TIMEOUT, () => {
      const now = this.#env.monotonic();
      for (const member of this.#members.values()) {
        const silentMs = Math.round(now - member.lastHeardAt);
        if (silentMs > this.#timeoutMs) this.#lose(member, `no heartbeat for ${silentMs} ms`);
      }
      if (!this.#closed) this.#schedule();
    });
  }
}
