/**
 * The TaskManager's side of the RPCs: one connection to the JobManager. It does not reconnect by
 * itself: what a lost JobManager means for running tasks (P38) is the caller's decision.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import type { Env } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { RpcConnection } from './connection.ts';
import type { Command, Report } from './messages.ts';
import { readCommand } from './shape.ts';

export class RpcClient {
  readonly #connection: RpcConnection<Report, Command>;

  private constructor(socket: Socket) {
    this.#connection = new RpcConnection(socket, readCommand);
  }

  /** Rejects with RPC_CONNECT (retryable) when nothing answers within `timeoutMs`. */
  static connect(
    env: Env,
    address: { host: string; port: number; timeoutMs: number },
  ): Promise<RpcClient> {
    return new Promise((resolve, reject) => {
      const socket = connectSocket({ host: address.host, port: address.port });
      const fail = (reason: string) => {
        timer.cancel();
        socket.destroy();
        reject(
          new TriggerJobError(
            'RPC_CONNECT',
            `no JobManager at ${address.host}:${address.port}: ${reason}`,
            { retryable: true },
          ),
        );
      };
      const onError = (error: Error) => fail(messageOf(error));
      const timer = env.timer(address.timeoutMs, () =>
        fail(`no answer in ${address.timeoutMs} ms`),
      );
      socket.once('error', onError);
      socket.once('connect', () => {
        timer.cancel();
        socket.off('error', onError);
        resolve(new RpcClient(socket));
      });
    });
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
    this.#connection.onMessage(listener);
  }

  onClose(listener: (error: Error | null) => void): void {
    this.#connection.onClose(listener);
  }

  /** With an error the connection is dropped, without one it ends behind what is queued. */
  close(error: Error | null = null): void {
    this.#connection.close(error);
  }
}
