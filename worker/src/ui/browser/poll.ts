/** An answer of the REST API, asked for again and again while somebody looks at it. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ApiError, get, token } from './api.ts';
import { later } from './browser-env.ts';
import { type Span, Spans } from './span.ts';
import { useStore } from './store.ts';

export interface Polled<T> {
  /** The newest answer; kept while later ones fail. */
  data: T | null;
  /** Of the newest try; null = it was answered. */
  error: ApiError | null;
}

/** An endpoint that this version does not have is asked again, but rarely. */
const MISSING_EVERY_MS = 30_000;
const MAX_KEPT = 40;
/** The newest answers, so that a page that is come back to is there at once. */
const kept = new Map<string, unknown>();

/** `path` null: nothing is asked. Nothing is asked while the page is hidden. */
export function usePoll<T>(path: string | null, everyMs: number): Polled<T> {
  const bearer = useStore(token);
  const [state, setState] = useState<Polled<T> & { path: string | null }>({
    path: null,
    data: null,
    error: null,
  });
  useEffect(() => {
    if (path === null) return undefined;
    return poll<T>(path, everyMs, ({ data, error }) => {
      if (data !== null) keep(path, data);
      setState((before) => ({
        path,
        data: data ?? (before.path === path ? before.data : keptOf<T>(path)),
        error,
      }));
    });
    // The bearer is no argument, but another one is another question.
  }, [path, everyMs, bearer]);
  if (state.path === path) return state;
  return { data: path === null ? null : keptOf<T>(path), error: null };
}

function poll<T>(path: string, everyMs: number, tell: (polled: Polled<T>) => void): () => void {
  const aborting = new AbortController();
  let cancel = () => {};
  const round = async () => {
    cancel();
    let next = everyMs;
    try {
      tell({ data: await get<T>(path, aborting.signal), error: null });
    } catch (error) {
      if (aborting.signal.aborted) return;
      const known = error instanceof ApiError ? error : new ApiError(0, String(error));
      if (known.status === 404) next = Math.max(everyMs, MISSING_EVERY_MS);
      tell({ data: null, error: known });
    }
    if (!aborting.signal.aborted && !document.hidden) cancel = later(next, () => void round());
  };
  const onVisible = () => {
    if (!document.hidden) void round();
  };
  document.addEventListener('visibilitychange', onVisible);
  void round();
  return () => {
    aborting.abort();
    cancel();
    document.removeEventListener('visibilitychange', onVisible);
  };
}

function keptOf<T>(path: string): T | null {
  return (kept.get(path) as T | undefined) ?? null;
}

function keep(path: string, data: unknown): void {
  kept.delete(path);
  kept.set(path, data);
  const [oldest] = kept.keys();
  if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest);
}

/** Wall time, drawn again every second: for ages. */
export function useClock(now: () => number): number {
  const [at, setAt] = useState(now());
  useEffect(() => later(1000, () => setAt(now())), [at]);
  return at;
}

/** The newest answer beside one of some seconds before. */
export function useSpan<T extends { now: number }>(data: T | null): Span<T> | null {
  const spans = useRef(new Spans<T>());
  return useMemo(() => (data === null ? null : spans.current.add(data)), [data]);
}
