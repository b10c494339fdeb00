/** The contract of the Profile API client (http-profile-api.ts): what a user starts with. */
import type { HistogramCounts } from '../runtime/histogram.ts';

/** Raw JSON texts as the API sent them; `history` oldest first, one text per event. */
export interface ProfileAnswer {
  kind: 'found';
  profile: string;
  visit: string;
  history: string[];
}

/** `onError: deadLetter`: the waiting events go to the dead letter with this error. */
export interface ProfileFailure {
  kind: 'failed';
  error: string;
}

export interface ProfileApi {
  /**
   * The user's three parts; 404 of a part is an answer ({} or []). The caller asks once per user at
   * a time. With `onError: retry` it settles only with an answer (or rejects after `close`).
   */
  fetch(userId: string): Promise<ProfileAnswer | ProfileFailure>;
  /** Counters since the start: requests, errors, retries, inFlight, breaker (0 closed, 1 open). */
  stats(): Record<string, number>;
  /** `profileSeconds` of its attempts, three requests at once each; failed ones too. */
  readonly attemptSeconds?: HistogramCounts;
  close(): Promise<void>;
}
