/** Totals of one source since it was made; plain numbers, read by the metrics of the slot. */
export interface SourceCounters {
  records: number;
  fetchedBytes: number;
  /**
   * Failed requests and partition errors, transient ones included: a broker that is down shows
   * here.
   */
  fetchErrors: number;
  metadataRefreshes: number;
  /** Times the watchdog replaced all connections. */
  reconnects: number;
}

export function newSourceCounters(): SourceCounters {
  return { records: 0, fetchedBytes: 0, fetchErrors: 0, metadataRefreshes: 0, reconnects: 0 };
}
