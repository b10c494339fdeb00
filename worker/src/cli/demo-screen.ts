/**
 * What the demo shows while it runs: the first webhook, then live lines (one line every 5 s without
 * a TTY).
 */
import { type Env, sleep } from '../runtime/env.ts';
import { formatAge, formatBytes, formatCount } from './amounts.ts';
import type { DemoReceiver, ReceiverCounts } from './demo-services.ts';
import type { LocalRunView } from './local-run.ts';
import { fetchStatus, type JobStatus } from './rest-client.ts';
import type { Terminal } from './terminal.ts';

const REDRAW_MS = 1_000;
const LINE_EVERY_MS = 5_000;
const SHOWN_BODY_CHARACTERS = 120;

/** What the pipeline does, how it is kept, and, only when there is some, what is unusual. */
export function liveLines(
  status: JobStatus,
  counts: ReceiverCounts,
  restUrl: string,
  now: number,
): string[] {
  const flow = [
    `${formatCount(status.eventsPerSecond)} events/s`,
    `matched ${formatCount(status.matched)}`,
    `delivered ${formatCount(status.delivered)}`,
    `users in state ${formatCount(status.users)}`,
  ];
  const rare: [string, number][] = [
    ['dead-lettered', status.deadLettered],
    ['waiting for a profile', status.parked],
    ['restarts', status.restarts],
    ['repeated deliveries', counts.repeated],
    ['invalid deliveries', counts.invalid],
  ];
  const unusual = rare.flatMap(([name, count]) =>
    count > 0 ? [`${name} ${formatCount(count)}`] : [],
  );
  if (status.state !== 'RUNNING') flow.unshift(status.state);
  const last = status.lastCheckpoint;
  const kept =
    last === null
      ? 'no checkpoint yet'
      : `checkpoint ${last.id}: ${formatAge(now - last.at)} ago, ` +
        `${formatBytes(last.bytes)}, ${Math.round(last.durationMs)} ms`;
  const lines = [flow.join(' | '), `${kept} | REST ${restUrl}`];
  return unusual.length === 0 ? lines : [...lines, unusual.join(' | ')];
}

export function firstWebhookLine(seconds: number, path: string, body: string): string {
  const cut = body.length > SHOWN_BODY_CHARACTERS ? '...' : '';
  const shown = body.slice(0, SHOWN_BODY_CHARACTERS);
  return `first webhook delivered after ${seconds.toFixed(1)} s: POST ${path} ${shown}${cut}`;
}

export class DemoScreen implements LocalRunView {
  readonly #env: Env;
  readonly #terminal: Terminal;
  readonly #receiver: DemoReceiver;
  readonly #stop = new AbortController();

  /** `startedAt`: monotonic time at which the user started the demo. */
  constructor(env: Env, terminal: Terminal, receiver: DemoReceiver, startedAt: number) {
    this.#env = env;
    this.#terminal = terminal;
    this.#receiver = receiver;
    void receiver.first.then(({ path, body }) => {
      const seconds = (env.monotonic() - startedAt) / 1_000;
      terminal.print(terminal.paint('green', firstWebhookLine(seconds, path, body)));
    });
  }

  start(restUrl: string): void {
    void this.#loop(restUrl).catch(() => this.stop());
  }

  stop(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    if (this.#terminal.redraws) this.#terminal.live([]);
  }

  async #loop(restUrl: string): Promise<void> {
    const terminal = this.#terminal;
    for (;;) {
      await sleep(this.#env, terminal.redraws ? REDRAW_MS : LINE_EVERY_MS, this.#stop.signal);
      const lines = await this.#lines(restUrl);
      if (this.#stop.signal.aborted) return;
      if (terminal.redraws) terminal.live(lines);
      else terminal.print(lines.join(' | '));
    }
  }

  async #lines(restUrl: string): Promise<string[]> {
    try {
      const status = await fetchStatus(this.#env, restUrl);
      return liveLines(status, this.#receiver.counts, restUrl, this.#env.now());
    } catch {
      return ['the JobManager does not answer yet'];
    }
  }
}
