/** What a JobManager is given: by its process, by the simulation, by tests. */
import type { Logger } from 'pino';
import type { ObjectStore } from '../checkpoint/object-store.ts';
import type { OpenOptions } from '../checkpoint/open-store.ts';
import type { RunClaim } from '../checkpoint/run-claim.ts';
import type { JobPlan, SourcePlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import type { RpcServer } from '../rpc/server.ts';
import type { TransportKeys } from '../rpc/transport-secret.ts';
import type { Env } from '../runtime/env.ts';
import type { Split, SplitEnumerator } from '../source/source.ts';
import type { PhaseHooks } from './checkpoint-driver.ts';
import type { StartFrom } from './start-point.ts';

export interface JobManagerOptions {
  plan: JobPlan;
  /** Files whose change makes the JobManager call `loadScript`; empty = none is watched. */
  watchFiles: readonly string[];
  /** The plan's script, compiled, or null; rejects for a broken one, which is then refused. */
  loadScript(): Promise<ScriptVersion | null>;
  /** The plan's script with its version. */
  script: ScriptVersion;
  env: Env;
  log: Logger;
  /** The job's own folder. */
  store: ObjectStore;
  /** For savepoints, in folders of their own. */
  openStore(url: string, options?: Pick<OpenOptions, 'readOnly'>): Promise<ObjectStore>;
  /** `known`: the splits of the restored checkpoint. */
  openEnumerator(source: SourcePlan, known: readonly Split[]): SplitEnumerator;
  from?: StartFrom;
  /** null or left out: not deployed by the operator. */
  run?: RunClaim | null;
  hooks?: PhaseHooks;
  /** Names this process in the log. */
  writer: string;
  /** Epoch whose leader is known to be gone; left out: whoever leads is succeeded. */
  after?: number | null;
  /** The epoch is claimed: from here on this process has to show that it lives. */
  onLeading?(leaderEpoch: number, confirm: () => Promise<void>): Promise<void>;
  /** Who may connect; null or left out = whoever can reach the port. */
  keys?: TransportKeys | null;
  /** How TaskManagers get in; the simulation has no sockets. */
  listen?: (
    options: Parameters<typeof RpcServer.listen>[0],
  ) => Promise<Pick<RpcServer, 'port' | 'close'>>;
}
