/** The project's one error class: a stable code to branch on, and whether trying again can help. */
export class TriggerJobError extends Error {
  readonly code: string;
  readonly retryable: boolean;

  constructor(
    code: string,
    message: string,
    options: { retryable?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TriggerJobError';
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** Whether trying again can help, as far as what was thrown says so. */
export function isRetryable(thrown: unknown): boolean {
  return thrown instanceof TriggerJobError && thrown.retryable;
}

/** The message of anything that was thrown, with its causes. Total: never throws itself. */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown.cause === undefined
    ? thrown.message
    : `${thrown.message}: ${messageOf(thrown.cause)}`;
}

/** A broken invariant of ours, never a fault of the input: the process ends (crash-only). */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new TriggerJobError('INVARIANT', `invariant broken: ${message}`);
}
