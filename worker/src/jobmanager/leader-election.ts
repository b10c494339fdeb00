/**
 * Who should lead. That is a matter of liveness alone: authority is the takeover record of the
 * job's log (P39), so a wrong answer here costs a leader change, never correctness.
 * store-election.ts needs nothing but the checkpoint store; in Kubernetes a Lease can stand behind
 * the same interface.
 */

import type { JobEnd } from '../checkpoint/snapshot.ts';

/** Where the leader is reached; told to TaskManagers and clients that come to a standby. */
export interface LeaderAddress {
  /** host:port of its RPC. */
  rpc: string;
  /** http://host:port of its REST API. */
  rest: string;
}

export type Turn =
  /**
   * The leader of epoch `after` is gone: claim the next one, and no other. `followed`: this process
   * has seen the job led by another one, so that what its user asked for at the start is done.
   */
  { kind: 'claim'; after: number; followed: boolean } | { kind: 'ended'; end: JobEnd };

export interface LeaderElection {
  /** null: nobody is known to lead. */
  readonly leader: LeaderAddress | null;
  /** Waits as a standby. Rejects with the signal's reason. */
  turn(signal: AbortSignal): Promise<Turn>;
  /**
   * This process has claimed `leaderEpoch`: shows that it lives until `release`. `confirm` rejects
   * once a higher takeover is in the log. `onLost` is called once, and then the process must end.
   */
  lead(
    leaderEpoch: number,
    confirm: () => Promise<void>,
    onLost: (error: Error) => void,
  ): Promise<void>;
  /** Gives the leadership up in order: a standby need not wait for the lease. Never rejects. */
  release(end: JobEnd | null): Promise<void>;
  close(): void;
}
