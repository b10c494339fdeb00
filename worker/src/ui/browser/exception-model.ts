/** The timeline of exceptions: the first cause apart, and what repeats folded into one. Pure. */
import type { ExceptionEntry, Exceptions } from './api-types.ts';

export interface Incident {
  code: string;
  /** Of the newest. */
  message: string;
  count: number;
  firstAt: number;
  lastAt: number;
  where: string[];
}

export interface Timeline {
  firstCause: { at: number; code: string; message: string } | null;
  incidents: Incident[];
  truncated: boolean;
}

const MAX_PLACES = 6;

/** Newest first. Two are one incident when they differ in numbers and ids alone. */
export function timelineOf({ firstCause, exceptionHistory }: Exceptions): Timeline {
  const byFingerprint = new Map<string, Incident>();
  const newestFirst = [...exceptionHistory.entries].sort((a, b) => b.timestamp - a.timestamp);
  for (const entry of newestFirst) {
    const key = fingerprint(entry);
    const known = byFingerprint.get(key);
    const place = entry.taskName ?? entry.taskManagerId;
    if (known === undefined) {
      byFingerprint.set(key, {
        code: entry.exceptionName,
        message: entry.stacktrace,
        count: 1,
        firstAt: entry.timestamp,
        lastAt: entry.timestamp,
        where: place === null ? [] : [place],
      });
      continue;
    }
    known.count += 1;
    known.firstAt = Math.min(known.firstAt, entry.timestamp);
    const room = known.where.length < MAX_PLACES;
    if (place !== null && room && !known.where.includes(place)) known.where.push(place);
  }
  return {
    firstCause: firstCause ? { at: firstCause.timestamp, ...causeOf(firstCause) } : null,
    incidents: [...byFingerprint.values()],
    truncated: exceptionHistory.truncated,
  };
}

const causeOf = ({ code, message }: { code: string; message: string }) => ({ code, message });

function fingerprint({ exceptionName, stacktrace }: ExceptionEntry): string {
  const text = stacktrace.replaceAll(/\b[0-9a-f]{8,}\b/gi, '#').replaceAll(/\d+(\.\d+)?/g, '#');
  // A list of numbers may be longer the next time.
  return `${exceptionName} ${text.replaceAll(/#(, #)+/g, '#')}`;
}
