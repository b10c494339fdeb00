/** Every failure of a call to the API server, with a code to branch on. */

export type KubeErrorCode =
  /** 409: somebody else wrote first, or it exists already (`reason` AlreadyExists). */
  | 'KUBE_CONFLICT'
  /** 404. */
  | 'KUBE_NOT_FOUND'
  /** 400, 422 and whatever else says that the request can't succeed as it is. */
  | 'KUBE_INVALID'
  /** 401, 403. */
  | 'KUBE_FORBIDDEN'
  /** 410: the resourceVersion or continue token is too old; list again. */
  | 'KUBE_EXPIRED'
  /** 429, 5xx, no answer, no answer in time: try again later. What was asked may have been done. */
  | 'KUBE_UNAVAILABLE'
  /** Not sent: this process may not write any more, its Lease is lost. */
  | 'KUBE_FENCED';

export class KubeError extends Error {
  readonly code: KubeErrorCode;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** `reason` of the server's Status, such as AlreadyExists. */
  readonly reason: string;
  /** How long the server asks to wait, milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** A 404 that names the object it did not find, not an unknown kind or path. */
  readonly namesObject: boolean;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;

  constructor(
    code: KubeErrorCode,
    message: string,
    facts: {
      status?: number;
      reason?: string;
      retryAfterMs?: number;
      namesObject?: boolean;
      cause?: unknown;
    } = {},
  ) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = 'KubeError';
    this.code = code;
    this.status = facts.status ?? 0;
    this.reason = facts.reason ?? '';
    this.retryAfterMs = facts.retryAfterMs;
    this.namesObject = facts.namesObject ?? false;
    this.retryable = code === 'KUBE_UNAVAILABLE' || code === 'KUBE_CONFLICT';
  }
}

/** A watch was ended because nothing came: no event, no bookmark. */
export class SilentWatch extends Error {
  constructor(silenceMs: number) {
    super(`the watch said nothing for ${silenceMs / 1000} s`);
    this.name = 'SilentWatch';
  }
}

export function isKubeError(thrown: unknown, code: KubeErrorCode): thrown is KubeError {
  return thrown instanceof KubeError && thrown.code === code;
}

/** The body of a failed call: meta/v1 Status, as far as it is used. */
export interface StatusBody {
  kind?: string;
  code?: number;
  reason?: string;
  message?: string;
  details?: { name?: string; kind?: string; retryAfterSeconds?: number };
}

function codeOf(status: number): KubeErrorCode {
  if (status === 404) return 'KUBE_NOT_FOUND';
  if (status === 409) return 'KUBE_CONFLICT';
  if (status === 410) return 'KUBE_EXPIRED';
  if (status === 401 || status === 403) return 'KUBE_FORBIDDEN';
  if (status === 408 || status === 429 || status >= 500) return 'KUBE_UNAVAILABLE';
  return 'KUBE_INVALID';
}

/** `what` is the call in words; `retryAfter` the header, in seconds. */
export function kubeErrorOf(
  what: string,
  status: number,
  body: StatusBody | undefined,
  retryAfter?: string,
): KubeError {
  const seconds = Number(retryAfter ?? body?.details?.retryAfterSeconds);
  return new KubeError(codeOf(status), `${what}: ${status} ${body?.message ?? ''}`.trimEnd(), {
    status,
    ...(body?.reason === undefined ? {} : { reason: body.reason }),
    namesObject: body?.reason === 'NotFound' && body.details?.name !== undefined,
    ...(seconds > 0 ? { retryAfterMs: seconds * 1000 } : {}),
  });
}

/** The message of anything that was thrown, with its causes. Total: never throws itself. */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  return thrown.cause === undefined
    ? thrown.message
    : `${thrown.message}: ${messageOf(thrown.cause)}`;
}
