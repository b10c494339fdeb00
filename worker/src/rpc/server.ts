/**
 * The JobManager's side of the RPCs: listens, and hands over one object per TaskManager connection.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { TriggerJobError } from '../runtime/errors.ts';
import { RpcConnection } from './connection.ts';
import type { Command, Report } from './messages.ts';
import { readReport } from './shape.ts';

/** Connections at once; more are closed at accept. Far above any number of TaskManagers (I7). */
const MAX_CONNECTIONS = 4096;

/** send(Command), onMessage(Report), onClose, close. */
export type TaskManagerConnection = RpcConnection<Command, Report>;

export class RpcServer {
  readonly #server: Server;
  readonly #connections = new Set<TaskManagerConnection>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Port 0 takes any free one. Rejects with RPC_LISTEN when the port can't be had. */
  static async listen(options: {
    host: string;
    port: number;
    onConnection(connection: TaskManagerConnection): void;
  }): Promise<RpcServer> {
    const server = createServer({ pauseOnConnect: true });
    server.maxConnections = MAX_CONNECTIONS;
    const rpc = new RpcServer(server);
    server.on('connection', (socket: Socket) => {
      const connection: TaskManagerConnection = new RpcConnection(socket, readReport);
      rpc.#connections.add(connection);
      socket.once('close', () => rpc.#connections.delete(connection));
      options.onConnection(connection);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(
          new TriggerJobError(
            'RPC_LISTEN',
            `rpc.port ${options.port} on ${options.host} can't be used, choose another`,
            { cause: error },
          ),
        );
      });
      server.listen(options.port, options.host, resolve);
    });
    return rpc;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Stops listening and ends every connection after what is queued for it. */
  async close(): Promise<void> {
    for (const connection of this.#connections) connection.close();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      // close() waits for every peer; those that do not hang up are dropped in the same breath.
      setImmediate(() => {
        for (const connection of this.#connections) {
          connection.close(new TriggerJobError('RPC_SERVER_CLOSED', 'the JobManager has stopped'));
        }
      });
    });
  }
}
