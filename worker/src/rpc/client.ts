/**
 * The TaskManager's side of the RPCs: one connection to the JobManager. It does not reconnect by
 * itself: what a lost JobManager means for running tasks (P38) is the caller's decision.
 */
import type { Socket } from 'node:net';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { RpcConnection } from './connection.ts';
import type { Command, Report } from './messages.ts';
import { readCommand } from './shape.ts';
import { SAME_FILE } from './tls-record.ts';
import { call } from './transport.ts';
import type { TransportKeys } from './transport-secret.ts';

const HUNG_UP = `the JobManager hung up without a word; does it speak TLS? ${SAME_FILE}`;

export interface RpcAddress {
  host: string;
  port: number;
  timeoutMs: number;
  /** null or left out = plain TCP. */
  keys?: TransportKeys | null;
}

export class RpcClient {
  readonly #connection: RpcConnection<Report, Command>;
  readonly #plain: boolean;
  #heard = false;

  private constructor(socket: Socket, plain: boolean) {
    this.#connection = new RpcConnection(socket, readCommand);
    this.#plain = plain;
  }

  /** Rejects with RPC_CONNECT (retryable) when there is no connection within `timeoutMs`. */
  static async connect(env: Env, address: RpcAddress): Promise<RpcClient> {
    const { keys = null, ...rest } = address;
    try {
      const socket = await call(env, { ...rest, keys, purpose: 'rpc' });
      return new RpcClient(socket, keys === null);
    } catch (cause) {
      const text = `no JobManager at ${address.host}:${address.port}`;
      throw new TriggerJobError('RPC_CONNECT', text, { retryable: true, cause });
    }
  }

  /**
   * Tries until it is connected or `signal` is aborted: the wait doubles from `initialMs` to
   * `maxMs`, with up to half of it taken off at random so that a fleet does not knock in step.
   */
  static async connectWithBackoff(
    env: Env,
    address: RpcAddress,
    backoff: { initialMs: number; maxMs: number },
    signal: AbortSignal,
  ): Promise<RpcClient> {
    for (let waitMs = backoff.initialMs; ; waitMs = Math.min(waitMs * 2, backoff.maxMs)) {
      signal.throwIfAborted();
      try {
        return await RpcClient.connect(env, address);
      } catch (error) {
        if (!(error instanceof TriggerJobError && error.retryable)) throw error;
      }
      await sleep(env, waitMs * (1 - env.random() / 2), signal);
    }
  }

  /** The address of this machine by which the JobManager is reached. */
  get localAddress(): string {
    return this.#connection.localAddress;
  }

  get closed(): boolean {
    return this.#connection.closed;
  }

  /** false: not sent, the connection is closed (see RpcConnection.send). */
  send(report: Report): boolean {
    return this.#connection.send(report);
  }

  /** Commands wait in the socket until a listener is set. */
  onCommand(listener: (command: Command) => void): void {
    this.#connection.onMessage((command) => {
      this.#heard = true;
      listener(command);
    });
  }

  onClose(listener: (error: Error | null) => void): void {
    this.#connection.onClose((error) => {
      // A server that wants TLS just hangs up on who speaks none.
      const mute = this.#plain && !this.#heard && error === null;
      listener(mute ? new TriggerJobError('RPC_MUTE', HUNG_UP, { retryable: true }) : error);
    });
  }

  close(): void {
    this.#connection.close();
  }
}
