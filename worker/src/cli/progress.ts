/**
 * How far a step is that takes its time. Nothing for 2 s, since most are over by then; then a bar
 * on a terminal, redrawn in place, and a plain line now and again without one. The lines go to
 * standard error: standard output may be what the command is for.
 */
import type { Env, Timer } from '../runtime/env.ts';
import { formatAge } from './amounts.ts';
import type { Terminal } from './terminal.ts';

const QUIET_MS = 2_000;
const REDRAW_MS = 250;
const LINE_EVERY_MS = 5_000;
const BAR_CELLS = 24;

export interface ProgressOptions {
  env: Env;
  terminal: Terminal;
  /** Such as `verifying`. */
  what: string;
  /** Between two lines without a terminal, ms. */
  lineEveryMs?: number;
}

export class Progress {
  readonly #options: ProgressOptions;
  readonly #startedAt: number;
  #timer: Timer | null;
  #share: number | null = null;
  #detail = '';

  constructor(options: ProgressOptions) {
    const { env, terminal, lineEveryMs = LINE_EVERY_MS } = options;
    this.#options = options;
    this.#startedAt = env.monotonic();
    this.#timer = env.timer(terminal.redraws ? QUIET_MS : lineEveryMs, () => this.#show());
  }

  /** `share` from 0 to 1; null: nobody knows how much it is. */
  update(share: number | null, detail: string): void {
    this.#share = share === null ? null : Math.min(1, Math.max(0, share));
    this.#detail = detail;
  }

  /** Takes the bar away. Idempotent. */
  end(): void {
    const { terminal } = this.#options;
    if (this.#timer === null) return;
    this.#timer.cancel();
    this.#timer = null;
    if (terminal.redraws) terminal.live([]);
  }

  #show(): void {
    const { env, terminal, lineEveryMs = LINE_EVERY_MS } = this.#options;
    if (terminal.redraws) terminal.live([this.#line(true)]);
    else terminal.error(this.#line(false));
    this.#timer = env.timer(terminal.redraws ? REDRAW_MS : lineEveryMs, () => this.#show());
  }

  #line(withBar: boolean): string {
    const { env, terminal, what } = this.#options;
    const ms = env.monotonic() - this.#startedAt;
    const share = this.#share;
    const percent = share === null ? '' : ` ${Math.floor(share * 100)}%`;
    const detail = this.#detail === '' ? '' : `, ${this.#detail}`;
    const bar = withBar ? ` ${terminal.paint('cyan', barOf(share, ms))}` : '';
    return `${what}${bar}${percent}${detail}, ${formatAge(ms - (ms % 1_000))}`;
  }
}

/** Without a share, a block that goes to and fro. */
function barOf(share: number | null, ms: number): string {
  if (share !== null) {
    const full = Math.floor(share * BAR_CELLS);
    return `[${'#'.repeat(full)}${'-'.repeat(BAR_CELLS - full)}]`;
  }
  const width = 4;
  const room = BAR_CELLS - width;
  const step = Math.floor(ms / REDRAW_MS) % (2 * room);
  const at = step <= room ? step : 2 * room - step;
  return `[${'-'.repeat(at)}${'#'.repeat(width)}${'-'.repeat(room - at)}]`;
}
