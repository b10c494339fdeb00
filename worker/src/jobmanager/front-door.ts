/**
 * The RPC port of a JobManager from its start to its end. As a standby it tells whoever registers
 * where the leader is; once it leads, connections go to the job.
 */
import type { Logger } from 'pino';
import type { TaskManagerConnection } from '../rpc/server.ts';
import { RpcServer } from '../rpc/server.ts';
import { refusalLog } from '../rpc/transport.ts';
import type { TransportKeys } from '../rpc/transport-secret.ts';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { JobManagerOptions } from './jobmanager-options.ts';

/** A connection that says nothing to a standby is closed. */
const SILENT_LIMIT_MS = 10_000;

export interface FrontDoorOptions {
  env: Env;
  log: Logger;
  keys: TransportKeys | null;
  host: string;
  port: number;
  /** host:port of the leader's RPC, as far as it is known. */
  leader(): string | null;
  /** The last one of a job that has ended: its tasks must not go on. null = it has not. */
  endedEpoch?(): number | null;
}

export class FrontDoor {
  #server: RpcServer | null = null;
  #closing: Promise<void> | null = null;
  #accept: ((connection: TaskManagerConnection) => void) | null = null;

  /** Rejects with RPC_LISTEN. */
  static async open(options: FrontDoorOptions): Promise<FrontDoor> {
    const door = new FrontDoor();
    door.#server = await RpcServer.listen({
      host: options.host,
      port: options.port,
      keys: options.keys,
      onRefused: refusalLog(options.env, options.log, 'rpc'),
      onConnection: (connection) => {
        if (door.#accept === null) turnAway(options, connection);
        else door.#accept(connection);
      },
    });
    return door;
  }

  get port(): number {
    return this.#server?.port ?? 0;
  }

  /** For the job: connections are its own from now on. */
  readonly listen: NonNullable<JobManagerOptions['listen']> = ({ onConnection }) => {
    this.#accept = onConnection;
    return Promise.resolve(this);
  };

  get strangers(): RpcServer['strangers'] {
    return this.#server?.strangers ?? { open: 0, dropped: 0 };
  }

  /** Idempotent: the job closes it, and the process does. */
  close(): Promise<void> {
    this.#closing ??= this.#server?.close() ?? Promise.resolve();
    return this.#closing;
  }
}

export function turnAway(
  { env, leader, endedEpoch }: Pick<FrontDoorOptions, 'env' | 'leader' | 'endedEpoch'>,
  connection: TaskManagerConnection,
): void {
  const silent = env.timer(SILENT_LIMIT_MS, () => {
    connection.close(new TriggerJobError('RPC_NOT_REGISTERED', 'no register came in time'));
  });
  connection.onClose(() => silent.cancel());
  connection.onMessage((report) => {
    const epoch = endedEpoch?.() ?? null;
    // Who has heard a later leader has nothing to do with the run that ended.
    const over = epoch !== null && report.type === 'register' && report.leaderEpoch <= epoch;
    const reason = over ? 'the job has ended' : 'this JobManager is a standby';
    const code = over ? 'ended' : 'standby';
    connection.send({ type: 'refused', reason, code, leader: over ? null : leader() });
    connection.close();
  });
}
