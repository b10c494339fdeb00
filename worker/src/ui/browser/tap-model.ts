/** What of the live tap is kept and shown. Pure. */

import type { TapRecord } from './api-types.ts';
import type { StreamEvent } from './event-stream.ts';

/** In the order of the stream; `keyed` is what the server shows when nothing is asked for. */
export const STAGES = ['source', 'keyed', 'enriched', 'matched', 'fired', 'dropped'] as const;
export const FIRST_STAGE = 'keyed';

const MAX_ROWS = 300;

export interface TapRow {
  id: number;
  record: TapRecord;
}

export interface TapState {
  /** Newest first. */
  rows: readonly TapRow[];
  seen: number;
  /** Sampled away by the server, because there were too many. */
  skipped: number;
}

export const NOTHING_SEEN: TapState = { rows: [], seen: 0, skipped: 0 };

/** Events of unknown kinds are passed over: a newer server may tell more. */
export function tapState(before: TapState, events: readonly StreamEvent[]): TapState {
  let { seen, skipped } = before;
  const fresh: TapRow[] = [];
  for (const { event, data } of events) {
    const value = parsed(data);
    if (value === null) continue;
    if (event === 'record') {
      seen += 1;
      fresh.push({ id: seen, record: value as unknown as TapRecord });
    }
    const count = value['count'];
    if (event === 'skipped' && typeof count === 'number') skipped += count;
  }
  return { rows: [...fresh.reverse(), ...before.rows].slice(0, MAX_ROWS), seen, skipped };
}

export function tapPath(jobId: string, stage: string, user: string): string {
  const asked = Object.entries({ stage, user }).filter(([, value]) => value !== '');
  const query = asked.length === 0 ? '' : `?${new URLSearchParams(asked)}`;
  return `api/v1/jobs/${encodeURIComponent(jobId)}/tap${query}`;
}

function parsed(data: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === 'object' && value !== null ? { ...value } : null;
  } catch {
    return null;
  }
}
