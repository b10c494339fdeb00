/**
 * The main thread's side of the exchange: ports of the slots here, links to the other TaskManagers,
 * and the attempts of all subtasks as of now.
 */
import type { Logger } from 'pino';
import { channelCredit } from '../exchange/credit.ts';
import type { ShuffleAttempt } from '../exchange/shuffle-attempt.ts';
import type { ShuffleServer } from '../exchange/shuffle-server.ts';
import type { Deployment, ShuffleMetrics } from '../rpc/messages.ts';
import { SlotWiring } from './slot-wiring.ts';

export interface TaskExchangeOptions {
  log: Logger;
  shuffle: ShuffleServer;
  taskManagerId: string;
  deployment: Deployment;
  /** `attempt`: the newest one when it was lost. */
  lost(peer: string, attempt: number, error: { code: string; message: string }): void;
}

export class TaskExchange {
  readonly #shuffle: ShuffleServer;
  readonly #links: ShuffleAttempt;
  readonly wiring: SlotWiring;

  constructor(options: TaskExchangeOptions) {
    const { shuffle, taskManagerId, deployment, log, lost } = options;
    const { jobId, members, secret, plan, ranges, tasks, attempt, attempts } = deployment;
    this.#shuffle = shuffle;
    const wiring = new SlotWiring(
      tasks.map(({ subtask }) => subtask),
      ranges.length,
      {
        send: (channel, frame, both) => this.#links.send(channel, frame, both),
        credit: (channel, both) => this.#links.credit(channel, both),
      },
    );
    this.wiring = wiring;
    this.#links = shuffle.begin({
      jobId,
      attempt,
      attempts,
      secret,
      self: taskManagerId,
      members,
      credit: channelCredit(plan, ranges.length),
      heartbeatMs: plan.heartbeatIntervalMs,
      timeoutMs: plan.heartbeatTimeoutMs,
      deliver: (channel, frame, both) => wiring.deliver(channel, frame, both),
      granted: (channel, bytes, both) => wiring.granted(channel, bytes, both),
      lost: (peer, { code, message }) => {
        const newest = this.#links.identity.attempt;
        log.info({ peer, attempt: newest, code, message }, 'connection with a peer lost');
        lost(peer, newest, { code, message });
      },
    });
  }

  get stats(): ShuffleMetrics {
    return this.#links.stats;
  }

  detach(subtasks: readonly number[]): void {
    this.#links.detach(subtasks);
  }

  /** The detached subtasks' successors; `deployment.tasks` are those that start here. */
  replace(deployment: Deployment): void {
    const fresh = this.#links.replace(deployment);
    for (const { subtask } of deployment.tasks) this.wiring.add(subtask);
    this.#shuffle.connect(this.#links, fresh);
  }

  close(): void {
    this.#shuffle.end();
    this.wiring.close();
  }
}
