/**
 * The REST API as the browser asks it: paths are relative to where the UI itself came from, so that
 * it works behind a path prefix. It also knows when the server was last heard of, and the token.
 */
import { now } from './browser-env.ts';
import { Store } from './store.ts';

const TOKEN_KEY = 'triggerjob.token';
/** A gateway or a standby without a leader speaks: the job itself was not reached. */
const UNREACHED = [502, 503, 504];

/** `status` 0: no answer came. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export interface Connection {
  /** Wall time of the newest answer; 0 = none yet. */
  lastSeen: number;
  /** Why the newest request got none; null = it got one. */
  fault: string | null;
}

export const connection = new Store<Connection>({ lastSeen: 0, fault: null });
export const token = new Store<string>(sessionStorage.getItem(TOKEN_KEY) ?? '');
/** Whether somebody is being asked for the token. */
export const tokenAsked = new Store(false);

export function keepToken(value: string): void {
  if (value === '') sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, value);
  token.set(value);
}

/** Rejects with an ApiError, or with the signal's reason. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token.value !== '') headers.set('authorization', `Bearer ${token.value}`);
  let response: Response;
  try {
    response = await fetch(new URL(`../${path}`, import.meta.url), { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw lost(new ApiError(0, 'the JobManager does not answer'));
  }
  if (response.ok) {
    connection.set({ lastSeen: now(), fault: null });
    return response;
  }
  const error = new ApiError(response.status, await reasonOf(response));
  if (UNREACHED.includes(response.status)) throw lost(error);
  connection.set({ lastSeen: now(), fault: null });
  throw error;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await ask(path, signal === undefined ? {} : { signal });
  return (await response.json()) as T;
}

export async function post<T>(path: string, body: object): Promise<T> {
  const response = await ask(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

/** This version of the server has no such endpoint; else what was asked for is not there. */
export function isUnknownPath({ status, message }: ApiError): boolean {
  return status === 404 && message.startsWith('Not found: /');
}

export function jobPath(jobId: string, rest = ''): string {
  return `jobs/${encodeURIComponent(jobId)}${rest}`;
}

function lost(error: ApiError): ApiError {
  connection.set({ ...connection.value, fault: error.message });
  return error;
}

/** Errors are {"errors": [...]}; a proxy's page is not shown. */
async function reasonOf(response: Response): Promise<string> {
  const fallback = `HTTP ${response.status} ${response.statusText}`.trim();
  try {
    const { errors } = (await response.json()) as { errors?: string[] };
    return errors?.[0] ?? fallback;
  } catch {
    return fallback;
  }
}
