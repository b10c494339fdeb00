/** Does a scenario to the cluster. An action that finds nobody to act on is not counted. */

import type { Seeded } from '../rehearsal/seeded.ts';
import type { SimProcess } from '../rehearsal/sim-process.ts';
import type { VirtualTime } from '../rehearsal/virtual-time.ts';
import type { Action, Role } from './actions.ts';
import { describe } from './actions.ts';
import type { Cluster } from './cluster.ts';
import type { Faults } from './faults.ts';
import { type Network, STORE } from './network.ts';
import type { PeerSilence } from './peer-silence.ts';
import type { RunChecks } from './run-checks.ts';
import type { SimTaskManager } from './sim-task-manager.ts';

/** A process that stood still ends within this after it was woken (P38). */
const ZOMBIE_LIMIT_MS = 5_000;
const HEARTBEAT_MS = 1_000;

export interface Stage {
  cluster: Cluster;
  faults: Faults;
  network: Network;
  silence: PeerSilence;
  checks: RunChecks;
  time: VirtualTime;
  rng: Seeded;
  heartbeatTimeoutMs: number;
  mutant: string | null;
  hit(what: string): void;
}

export class Acts {
  readonly #stage: Stage;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  do(action: Action): void {
    const done = this.#processes(action) || this.#ways(action) || this.#control(action);
    if (done) this.#stage.hit(describe(action));
  }

  /** What happens to processes as a whole. */
  #processes(action: Action): boolean {
    const { cluster, rng, time } = this.#stage;
    switch (action.do) {
      case 'crash': {
        const process = this.#one(action.role);
        if (process !== null) cluster.crash(process, action.silent);
        return process !== null;
      }
      case 'stay away': {
        const process = this.#one('taskmanager');
        if (process !== null) cluster.crash(process, action.silent, action.ms);
        return process !== null;
      }
      case 'freeze':
        return action.role === 'jobmanager'
          ? this.#freezeLeader(action.ms)
          : this.#freeze(rng.pick([...cluster.taskManagers.values()]), action.ms);
      case 'jump': {
        const process = this.#one(action.role);
        process?.jump(action.ms);
        return process !== null;
      }
      case 'twin':
        cluster.startTwin();
        return true;
      case 'outage':
        this.#stage.faults.outage(action.service, time.nowMs + action.ms, action.subtask);
        return true;
      default:
        return false;
    }
  }

  /** What passes between processes. */
  #ways(action: Action): boolean {
    const { network, rng, cluster, silence, mutant } = this.#stage;
    switch (action.do) {
      case 'cut rpc': {
        const ends = { jobmanager: this.#one('jobmanager'), taskmanager: this.#one('taskmanager') };
        const from = ends[action.role];
        const to = ends[action.role === 'jobmanager' ? 'taskmanager' : 'jobmanager'];
        if (from === null || to === null) return false;
        network.cut(from.name, to.name, action);
        return true;
      }
      case 'cut shuffle': {
        const all = [...cluster.taskManagers.values()];
        if (all.length < 2) return false;
        const from = rng.pick(all);
        const to = rng.pick(all.filter((one) => one !== from));
        const { untilMs } = network.cut(from.process.name, to.process.name, action);
        silence.begin(to, from, untilMs, action.lost && mutant !== 'broken-link-resumed');
        return true;
      }
      case 'cut store': {
        const process = this.#one(action.role);
        if (process === null) return false;
        const [from, to] =
          action.way === 'requests' ? [process.name, STORE] : [STORE, process.name];
        network.cut(from, to, action);
        return true;
      }
      default:
        return false;
    }
  }

  /** What people and Kubernetes ask of the leader. */
  #control(action: Action): boolean {
    const { cluster, checks } = this.#stage;
    const manager = cluster.leader()?.manager ?? null;
    switch (action.do) {
      case 'script':
        checks.scripts.add(action.version);
        cluster.changeScript(action.version);
        return true;
      case 'release':
        return cluster.release();
      case 'checkpoint':
        manager?.checkpoint().catch(() => undefined);
        return manager !== null;
      case 'savepoint':
        return this.#savepoint(action);
      case 'ask':
        manager?.rescale(action.parallelism).then(
          () => this.#stage.hit('rescale asked, and stored'),
          () => undefined,
        );
        return manager !== null;
      case 'rescale':
        cluster.redeploy(action.parallelism, action.graceful);
        return true;
      default:
        return false;
    }
  }

  #one(role: Role): SimProcess | null {
    const { cluster, rng } = this.#stage;
    if (role === 'jobmanager') return cluster.leader()?.process ?? null;
    return rng.pick([...cluster.taskManagers.keys()]) ?? null;
  }

  #freezeLeader(ms: number): boolean {
    const { cluster, time } = this.#stage;
    const process = cluster.leader()?.process;
    process?.freeze(time.nowMs + ms);
    return process !== undefined;
  }

  #freeze(taskManager: SimTaskManager | undefined, ms: number): boolean {
    const { cluster, silence, time, heartbeatTimeoutMs, hit } = this.#stage;
    if (taskManager === undefined) return false;
    const { process, attempt } = taskManager;
    const untilMs = time.nowMs + ms;
    process.freeze(untilMs);
    for (const peer of cluster.taskManagers.values()) {
      if (peer !== taskManager) silence.begin(peer, taskManager, untilMs, false);
    }
    const isZombie = attempt !== null && ms > heartbeatTimeoutMs + HEARTBEAT_MS;
    time.after(ms + ZOMBIE_LIMIT_MS, () => {
      if (!process.alive) return;
      if (!isZombie) hit('taskmanager: woken in time, and went on');
      else if (!process.frozen) time.fail(new Error(`P38: ${process.name} was woken and lives on`));
    });
    return true;
  }

  #savepoint({ stop, drain }: Extract<Action, { do: 'savepoint' }>): boolean {
    const { cluster, checks, hit, mutant } = this.#stage;
    const manager = cluster.leader()?.manager;
    if (manager === undefined || manager === null) return false;
    const taken = stop ? manager.stopWithSavepoint({ drain, as: 'finished' }) : manager.savepoint();
    taken.then(
      ({ location }) => {
        hit(stop ? 'stopped with a savepoint' : 'savepoint taken');
        const objects = cluster.storeAt(location);
        checks.savepointTaken(objects);
        if (mutant === 'savepoint-loses-an-object') objects.delete([...objects.keys()][0]!);
      },
      () => hit('savepoint given up'),
    );
    return true;
  }
}
