/**
 * What people may ask a subtask through the JobManager, and what it answers. A question changes
 * nothing in the task. A tap is asked again and again: each answer brings what was seen since.
 */

export const TAP_STAGES = ['source', 'keyed', 'enriched', 'matched', 'fired', 'dropped'] as const;
export type TapStage = (typeof TAP_STAGES)[number];

export const HOT_KEY_ORDERS = ['events', 'bytes', 'state'] as const;
export type HotKeyOrder = (typeof HOT_KEY_ORDERS)[number];

export interface TapRequest {
  id: string;
  stage: TapStage;
  /** null: of all users. */
  userId: string | null;
}

export type SlotQuery =
  | {
      kind: 'user';
      userId: string;
      keyGroup: number;
      /** Newest events of the history, and bytes of all texts, at most. */
      historyLimit: number;
      maxBytes: number;
    }
  | { kind: 'hot-keys'; by: HotKeyOrder; top: number }
  | { kind: 'tap'; tap: TapRequest }
  | { kind: 'untap'; id: string };

export type VerdictWord = 'match' | 'no-match' | 'error';

export interface Decision {
  /** Wall time, ms. */
  at: number;
  topic: string;
  partition: number;
  offset: number;
  verdict: VerdictWord;
  error: string | null;
  scriptVersion: string;
}

/** Texts are JSON. */
export interface FoundUser {
  from: 'memory' | 'disk';
  bytes: number;
  /** Split time, ms; -1 unknown. */
  lastAccess: number;
  sequence: number;
  /** null: beyond `maxBytes`. */
  profile: string | null;
  visit: string | null;
  /** An array. */
  history: string;
  historyShown: number;
  historyEvents: number;
}

export interface UserAnswer {
  kind: 'user';
  /** null: not in state. */
  found: FoundUser | null;
  /** Its events that wait for the Profile API, its deliveries that wait or are under way. */
  parked: number;
  outbox: number;
  /** Newest first. */
  decisions: Decision[];
}

export interface HotKey {
  userId: string;
  keyGroup: number;
  /** Estimates over the window; null: not among the keys that are counted in this unit. */
  events: number | null;
  bytes: number | null;
  /** How much too high the figure asked for may be, in its unit. */
  errorBound: number;
  /** null: not in state any more. */
  stateBytes: number | null;
}

export interface HotKeysAnswer {
  kind: 'hot-keys';
  /** The window's begin, wall time, ms. */
  since: number;
  /** All events and bytes of the window. */
  events: number;
  bytes: number;
  keys: HotKey[];
}

export interface TappedRecord {
  at: number;
  stage: TapStage;
  /** null: it has none that can be read. */
  userId: string | null;
  topic: string;
  partition: number;
  offset: number;
  subtask: number;
  /**
   * As JSON text, on one line: of an event that is too long or no JSON the text of a string. Never
   * as objects: of one nested ten thousand deep neither a message nor a frame can be made.
   */
  event: string;
  verdict: VerdictWord | null;
  reason: string | null;
  /** Of stage `enriched`: what the filter saw beside the event, history apart. */
  user?: string;
  visit?: string;
}

export type SlotAnswer =
  | UserAnswer
  | HotKeysAnswer
  | { kind: 'tapped'; records: TappedRecord[]; skipped: number }
  | { kind: 'untapped' }
  /** `restoring`, `moved`: ask again. */
  | { kind: 'failed'; code: 'restoring' | 'moved' | 'failed'; error: string };
