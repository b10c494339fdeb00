/**
 * Ctrl-C in two steps: the first asks for an orderly end, the second ends at once. `npm run`
 * repeats the terminal's SIGINT to its child, so one key press can arrive as two signals: signals
 * within a second are one request.
 */
import type { Env } from '../runtime/env.ts';

const SAME_REQUEST_MS = 1_000;

export interface Interrupts {
  /** Resolves at the first SIGINT or SIGTERM. */
  first: Promise<void>;
  /** Resolves at a second request. */
  second: Promise<void>;
  release(): void;
}

export function watchInterrupts(env: Env, process: NodeJS.EventEmitter): Interrupts {
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  let firstAt: number | null = null;
  const onSignal = () => {
    const now = env.monotonic();
    if (firstAt === null) {
      firstAt = now;
      first.resolve();
    } else if (now - firstAt >= SAME_REQUEST_MS) second.resolve();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    first: first.promise,
    second: second.promise,
    release() {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
}
