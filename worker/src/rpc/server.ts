/**
 * The JobManager's side of the RPCs: listens, and hands over one object per TaskManager connection.
 */
import { TriggerJobError } from '../runtime/errors.ts';
import { RpcConnection } from './connection.ts';
import type { Command, Report } from './messages.ts';
import { readReport } from './shape.ts';
import { TransportServer } from './transport.ts';
import type { TransportKeys } from './transport-secret.ts';

/** A stranger's first message is a register: no other can be his, and none is larger. */
const MAX_FIRST_FRAME_BYTES = 256 * 1024;

/** send(Command), onMessage(Report), onClose, close. */
export type TaskManagerConnection = RpcConnection<Command, Report>;

export class RpcServer {
  readonly #transport: TransportServer;
  readonly #connections: Set<TaskManagerConnection>;

  private constructor(transport: TransportServer, connections: Set<TaskManagerConnection>) {
    this.#transport = transport;
    this.#connections = connections;
  }

  /** Port 0 takes any free one. Rejects with RPC_LISTEN when the port can't be had. */
  static async listen(options: {
    host: string;
    port: number;
    /** null or left out = plain TCP. */
    keys?: TransportKeys | null;
    onConnection(connection: TaskManagerConnection): void;
    onRefused?(remote: string, reason: string): void;
  }): Promise<RpcServer> {
    const { host, port, keys = null, onConnection, onRefused } = options;
    const connections = new Set<TaskManagerConnection>();
    try {
      const transport = await TransportServer.listen({
        ...{ host, port, keys, purpose: 'rpc' },
        onSocket: (socket, admit) => {
          const read = (value: unknown): Report | string => {
            const report = readReport(value);
            if (typeof report !== 'string') admit();
            return report;
          };
          const limits = { firstMaxBytes: MAX_FIRST_FRAME_BYTES };
          const connection: TaskManagerConnection = new RpcConnection(socket, read, limits);
          connections.add(connection);
          socket.once('close', () => connections.delete(connection));
          onConnection(connection);
        },
        ...(onRefused === undefined ? {} : { onRefused }),
      });
      return new RpcServer(transport, connections);
    } catch (cause) {
      const text = `rpc.port ${port} on ${host} can't be used, choose another`;
      throw new TriggerJobError('RPC_LISTEN', text, { cause });
    }
  }

  get port(): number {
    return this.#transport.port;
  }

  /** Connections that have sent no message yet, and how many of them had to make room. */
  get strangers(): { open: number; dropped: number } {
    return this.#transport.strangers;
  }

  /** Stops listening and ends every connection after what is queued for it. */
  async close(): Promise<void> {
    for (const connection of this.#connections) connection.close();
    // Those that do not hang up are dropped in the same breath.
    setImmediate(() => {
      for (const connection of this.#connections) {
        connection.close(new TriggerJobError('RPC_SERVER_CLOSED', 'the JobManager has stopped'));
      }
    });
    await this.#transport.close();
  }
}
