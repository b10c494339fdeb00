/**
 * The events of a run: a pure function of (seed, user, seq), and when each is due. Shapes vary on
 * purpose: absent optional fields, numbers and strings that a parse-and-print would alter, key
 * last.
 */
import { seededRandom } from './random.ts';

export interface DueEvent {
  /** ms after the start of the run. */
  dueMs: number;
  user: string;
  seq: number;
  partition: number;
}

export interface RunShape {
  seed: number;
  users: number;
  eventsPerUser: number;
  durationMs: number;
  partitions: number;
  /** Users appear one after the other over this share of the run; 0.5 unless told. */
  arrivalShare?: number;
}

function userName(index: number): string {
  return `user-${String(index).padStart(4, '0')}`;
}

const NAMES = ['page_view', 'add_to_cart', 'purchase', 'search', 'sign_in'];

/** The raw JSON of one event. */
export function eventText(seed: number, user: string, seq: number): string {
  const random = seededRandom(seed * 1_000_003 + seq * 7919 + Number(user.slice(5)) * 104_729);
  const parts: string[] = [];
  if (random() < 0.95) parts.push(`"event_name":"${NAMES[Math.floor(random() * NAMES.length)]}"`);
  if (random() < 0.95) parts.push(`"triggerable": ${random() < 0.7}`);
  if (random() < 0.6) parts.push(`"timestamp":${1_700_000_000_000 + seq * 1000}`);
  parts.push(`"seq":${seq}`);
  parts.push(`"amount":${(random() * 100).toFixed(2)}`, `"note":"caf\\u00e9 ü ${seq}"`);
  // Beyond 2^53: a number that went through a double comes out different.
  if (random() < 0.2) parts.push(`"order_id":9007199254740993${seq}`);
  const key = `"user_id":"${user}"`;
  return `{${(random() < 0.5 ? [key, ...parts] : [...parts, key]).join(',')}}`;
}

/**
 * Every event in the order of its due time. Users appear one after the other, so that the Profile
 * API is asked, and events are parked, around many of the kills.
 */
export function schedule(shape: RunShape): DueEvent[] {
  const random = seededRandom(shape.seed);
  const due: DueEvent[] = [];
  for (let index = 0; index < shape.users; index++) {
    const user = userName(index);
    const start = ((shape.arrivalShare ?? 0.5) * shape.durationMs * index) / shape.users;
    const step = (shape.durationMs - start) / shape.eventsPerUser;
    // Not index % partitions: neighbours in time must not be neighbours in partition.
    const partition = Math.floor(random() * shape.partitions);
    for (let seq = 1; seq <= shape.eventsPerUser; seq++) {
      due.push({ dueMs: start + step * (seq - random()), user, seq, partition });
    }
  }
  return due.sort((a, b) => a.dueMs - b.dueMs || (a.user < b.user ? -1 : 1) || a.seq - b.seq);
}
