/** How far a source is behind, over its splits. Pure. */

export interface SplitProgress {
  position: { offset: number };
  /** Offset behind the newest record; -1: the source does not tell. */
  endOffset: number;
  /** Its end was read, and no more comes. */
  finished: boolean;
  /** Wall time of emission minus timestamp, ms, of the record emitted last; null = none yet. */
  emitLagMs: number | null;
}

export interface SourceLag {
  openSplits: number;
  /** Records still to read. */
  pendingRecords: number;
  /** The same of the split that is furthest behind. */
  recordsLagMax: number;
  /** Of the split that emits the oldest records; -1: nothing was emitted. */
  emitEventTimeLagMs: number;
}

export function sourceLag(splits: Iterable<SplitProgress>): SourceLag {
  const lag = { openSplits: 0, pendingRecords: 0, recordsLagMax: 0, emitEventTimeLagMs: -1 };
  for (const { position, endOffset, finished, emitLagMs } of splits) {
    if (finished) continue;
    const behind = endOffset < 0 ? 0 : Math.max(0, endOffset - position.offset);
    lag.openSplits += 1;
    lag.pendingRecords += behind;
    lag.recordsLagMax = Math.max(lag.recordsLagMax, behind);
    if (emitLagMs !== null) lag.emitEventTimeLagMs = Math.max(lag.emitEventTimeLagMs, emitLagMs);
  }
  return lag;
}
