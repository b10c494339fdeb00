/**
 * The TaskManager's way to whoever leads: tries its JobManagers in turn, follows a standby's hint,
 * registers, and does it all again when the connection breaks or falls silent. Its tasks go on
 * meanwhile, for `grace` after a leader was last heard, by the monotonic clock (P38); then `onEnd`.
 * It never goes back to an older leader, and what one says is refused.
 */
import type { Logger } from 'pino';
import type { Command, Report } from '../rpc/messages.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';

/** After all of the addresses were tried in vain. */
const ROUND_PAUSE_MS = 200;
/** While the job has ended: for the next one, or until this process is removed. */
const ENDED_PAUSE_MS = 2_000;
/** A process that stands still is still connected to; it must not be waited for like a leader. */
const REGISTER_LIMIT_MS = 2_000;
/** Without a plan nothing could have an effect: only so that it does not wait for ever. */
const IDLE_GRACE_MS = 60_000;

/** One connection, the RpcClient's or the simulation's. */
export interface LeaderConnection {
  send(report: Report): boolean;
  onCommand(listener: (command: Command) => void): void;
  onClose(listener: (error: Error | null) => void): void;
  close(error?: Error | null): void;
}

export type Register = Extract<Report, { type: 'register' }>;
export type LeaderCommand = Exclude<Command, { type: 'registered' | 'refused' | 'alive' }>;

export interface LeaderLinkDeps {
  env: Env;
  log: Logger;
  addresses: readonly string[];
  connect(address: string): Promise<LeaderConnection>;
  /** Of this process as it is, once all earlier commands are done. */
  describe(leaderEpoch: number): Promise<Register>;
  /** One after the other: a command that overtakes a deployment would find no slot, in silence. */
  onCommand(command: LeaderCommand): Promise<void>;
  onRegistered(): void;
  /** The leader has told every split there was then (P37); wall time, ms. */
  onDiscovered(at: number): void;
  /** This process must have no further effect. */
  onEnd(fault: unknown): void;
}

export interface LeaderLimits {
  /** Silence of a leader that is as good as a broken connection. */
  heartbeatTimeoutMs: number;
  graceMs: number;
}

interface Session {
  readonly connection: LeaderConnection;
  readonly over: () => void;
  /** Monotonic, ms. */
  readonly openedAt: number;
  /** Made while the registration is: told behind it, for it may not know of them. null = told. */
  waiting: Report[] | null;
  registered: boolean;
}

export class LeaderLink {
  readonly #deps: LeaderLinkDeps;
  #limits: LeaderLimits = {
    heartbeatTimeoutMs: Number.POSITIVE_INFINITY,
    graceMs: IDLE_GRACE_MS,
  };
  #leaderEpoch = 0;
  #heardAt: number;
  #session: Session | null = null;
  #queue: Promise<void> = Promise.resolve();
  #hint: string | null = null;
  #next = 0;
  #failed = 0;
  #closed = false;
  /** A plan has come: there may be tasks. */
  #deployed = false;
  /** The job has ended, as who was asked last says. */
  #over = false;

  constructor(deps: LeaderLinkDeps) {
    this.#deps = deps;
    this.#heardAt = deps.env.monotonic();
  }

  get leaderEpoch(): number {
    return this.#leaderEpoch;
  }

  /** A leader has taken this process in, and the connection stands. */
  get registered(): boolean {
    return this.#session?.registered ?? false;
  }

  /** Of the deployed plan. */
  limit(limits: LeaderLimits): void {
    this.#limits = limits;
    this.#deployed = true;
  }

  /** What no leader hears, the next one asks for when this process registers. */
  send(report: Report): void {
    const session = this.#session;
    if (session?.waiting) session.waiting.push(report);
    else session?.connection.send(report);
  }

  /** Runs until `close`. Never rejects. */
  async run(): Promise<void> {
    const { env, log } = this.#deps;
    while (!this.#closed) {
      const address = this.#hint ?? this.#deps.addresses[this.#next]!;
      // After this one, hinted at or not: who has just been lost is asked last.
      const at = this.#deps.addresses.indexOf(address);
      if (at >= 0) this.#next = (at + 1) % this.#deps.addresses.length;
      this.#hint = null;
      try {
        const connection = await this.#deps.connect(address);
        if (this.#closed) connection.close();
        else await this.#talk(connection);
      } catch (error) {
        log.debug({ address, error: messageOf(error) }, 'no leader there');
      }
      if (this.#closed || this.#hint !== null) continue;
      this.#failed += 1;
      if (this.#failed % this.#deps.addresses.length === 0) {
        await sleep(env, this.#over ? ENDED_PAUSE_MS : ROUND_PAUSE_MS);
      }
    }
  }

  /** To be called at every heartbeat: judges the silence. */
  check(): void {
    if (this.#closed) return;
    const silentMs = this.#deps.env.monotonic() - this.#heardAt;
    const { heartbeatTimeoutMs, graceMs } = this.#limits;
    if (silentMs > graceMs) {
      const text = `no leader was heard for ${Math.round(silentMs)} ms`;
      this.#deps.onEnd(new TriggerJobError('LEADER_LOST', text));
      return;
    }
    const session = this.#session;
    if (session === null) return;
    const { registered, openedAt } = session;
    const limitMs = registered ? heartbeatTimeoutMs : REGISTER_LIMIT_MS;
    const since = registered ? this.#heardAt : openedAt;
    const sinceMs = this.#deps.env.monotonic() - since;
    if (sinceMs <= limitMs) return;
    const error = new TriggerJobError('RPC_SILENT', `silent for ${Math.round(sinceMs)} ms`);
    session.connection.close(error);
    this.#detach(error);
  }

  close(): void {
    this.#closed = true;
    this.#session?.connection.close();
    this.#session?.over();
  }

  /** Resolves when the connection is over. */
  async #talk(connection: LeaderConnection): Promise<void> {
    const over = Promise.withResolvers<void>();
    const openedAt = this.#deps.env.monotonic();
    const session: Session = {
      connection,
      over: over.resolve,
      openedAt,
      waiting: [],
      registered: false,
    };
    this.#session = session;
    connection.onClose((error) => {
      if (this.#session === session) this.#detach(error);
    });
    connection.onCommand((command) => {
      if (this.#session === session) this.#take(session, command);
    });
    // Behind the commands of the last leader that are still being done.
    await this.#queue;
    const register = await this.#deps.describe(this.#leaderEpoch);
    if (this.#session === session) {
      connection.send(register);
      for (const report of session.waiting ?? []) connection.send(report);
      session.waiting = null;
    }
    await over.promise;
  }

  #take(session: Session, command: Command): void {
    const { env, log } = this.#deps;
    if (command.type === 'refused') {
      if (command.code === 'unfit') {
        this.#deps.onEnd(new TriggerJobError('REGISTRATION_REFUSED', command.reason));
      }
      if (command.code === 'ended') this.#jobEnded();
      this.#hint = command.leader;
      session.connection.close();
      this.#detach(null);
      return;
    }
    const { type, leaderEpoch } = command;
    if (leaderEpoch < this.#leaderEpoch) {
      log.warn({ type, leaderEpoch, known: this.#leaderEpoch }, 'refused: old leader');
      if (type === 'registered') {
        session.connection.close();
        this.#detach(null);
      }
      return;
    }
    this.#leaderEpoch = leaderEpoch;
    this.#heardAt = env.monotonic();
    if (command.type === 'alive') {
      const { discoveredAt } = command;
      // Behind the splits that were told before it, and so are commands.
      this.#inTurn(() => this.#deps.onDiscovered(discoveredAt ?? Number.POSITIVE_INFINITY));
      return;
    }
    if (command.type === 'registered') {
      this.#failed = 0;
      this.#over = false;
      session.registered = true;
      log.info({ leaderEpoch }, 'registered with the leader');
      this.#deps.onRegistered();
      return;
    }
    this.#inTurn(() => this.#deps.onCommand(command));
  }

  /** After all commands before it. */
  #inTurn(act: () => void | Promise<void>): void {
    this.#queue = this.#queue
      .then(() => (this.#closed ? undefined : act()))
      .catch((fault: unknown) => this.#deps.onEnd(fault));
  }

  /** Tasks that were not told so must not wait for `grace`; without any it waits for a new job. */
  #jobEnded(): void {
    this.#heardAt = this.#deps.env.monotonic();
    this.#over = true;
    if (this.#deployed)
      this.#deps.onEnd(new TriggerJobError('JOB_ENDED', 'the job has ended; its tasks end'));
  }

  #detach(error: Error | null): void {
    const { log } = this.#deps;
    if (this.#session?.registered === true && !this.#closed) {
      const reason = error === null ? 'closed' : messageOf(error);
      log.warn({ reason, leaderEpoch: this.#leaderEpoch }, 'the leader is lost; the tasks go on');
    }
    this.#session?.over();
    this.#session = null;
  }
}
