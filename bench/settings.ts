/** The settings of `npm run bench` and `npm run bench:flink`: what differs between two rows. */
import type { Distribution } from './dataset.ts';

export const SCRIPT = "event.triggerable && user.country == 'US'";
/**
 * Asks for the history on every event, and fires for the same ones. TriggerJob knows its length and
 * reads none of it; Flink's state manager reads it for the script.
 */
const COUNT_SCRIPT = `count(history) > 0 && ${SCRIPT}`;
const OWN_EVENTS = 'filter(history, lambda(e) -> e.user_id == event.user_id end)';
/** Looks at each event of the history. */
const HISTORY_SCRIPT = `count(${OWN_EVENTS}) > 0 && ${SCRIPT}`;

export interface Setting {
  /** The letter of --settings. */
  key: string;
  title: string;
  users: number;
  /** After the first one of each user; 0: the fill itself is measured. */
  events: number;
  distribution: Distribution;
  script: string;
  /** The script reads the history: Flink's state manager then reads it for each event, too. */
  readsHistory: boolean;
  /** taskmanager.memory.process.size, MiB, on both sides unless TriggerJob has its own. */
  processMebibytes: number;
  ownMebibytes: number | null;
  /** TriggerJob's `taskManager.memory.slotCache`; null: its default. */
  slotCache: string | null;
  /** Users that are missing come from the HTTP Profile API; else each side makes them itself. */
  httpProfiles: boolean;
  webhook: boolean;
  /**
   * Each so-many-th user has that much more in each of its 100 past events; null: none. `varied`:
   * in TriggerJob alone it is text that compresses as text does, not the same letter.
   */
  heavy: { every: number; paddingBytes: number; varied?: boolean } | null;
  /** TriggerJob's `state.history.maxEvents`; null: its default, 100, as Flink's. */
  historyMaxEvents: number | null;
  /** A TaskManager is killed while events come at this rate; null: throughput is measured. */
  killAtEventsPerSecond: number | null;
  /** Flink's run with the one-value layout gets this many events; null: there is none. */
  oneValueEvents: number | null;
}

const cached: Setting = {
  key: 'a',
  title: '100 K users, all cached',
  users: 100_000,
  events: 6_000_000,
  distribution: 'uniform',
  script: SCRIPT,
  readsHistory: false,
  processMebibytes: 4_096,
  ownMebibytes: null,
  // The default holds them: a live user whose profile nobody asks for takes some 2 KB.
  slotCache: null,
  httpProfiles: false,
  webhook: false,
  heavy: null,
  historyMaxEvents: null,
  killAtEventsPerSecond: null,
  oneValueEvents: 100_000,
};

const base: Setting = { ...cached, oneValueEvents: null };

/** 100 past events of 160,000 bytes: 16 MB of the 16 MiB that a user may have. */
const HEAVY_PADDING_BYTES = 159_850;

export const SETTINGS: readonly Setting[] = [
  cached,
  {
    ...base,
    key: 'b',
    title: '100 K users, a cache for 10 K',
    events: 2_000_000,
    slotCache: '5Mi',
  },
  {
    ...base,
    key: 'c',
    title: '200 K users, TaskManager of 2 GB',
    users: 200_000,
    events: 4_000_000,
    processMebibytes: 2_048,
    slotCache: null,
  },
  { ...base, key: 'd', title: '100 K users, Zipf', distribution: 'zipf' },
  { ...base, key: 'm', title: 'a, TriggerJob with 1.8 GB', ownMebibytes: 1_792 },
  {
    ...base,
    key: 'e',
    title: '10 users of 16 MB among 10 K',
    users: 10_000,
    events: 400_000,
    heavy: { every: 1_000, paddingBytes: HEAVY_PADDING_BYTES },
  },
  {
    ...base,
    key: 'f',
    title: 'cold start, HTTP Profile API',
    users: 20_000,
    events: 0,
    httpProfiles: true,
  },
  {
    ...base,
    key: 'g',
    title: 'history counted on every event',
    events: 3_000_000,
    script: COUNT_SCRIPT,
    readsHistory: true,
  },
  { ...base, key: 'h', title: 'webhook for 4 %', events: 2_000_000, webhook: true },
  {
    ...base,
    key: 'i',
    title: 'history searched on every event',
    events: 1_000_000,
    script: HISTORY_SCRIPT,
    readsHistory: true,
  },
  {
    ...base,
    key: 'r',
    title: 'SIGKILL at 5 K events/s',
    events: 0,
    killAtEventsPerSecond: 5_000,
  },
];

/** As the table has it. */
export function settingOf(key: string): Setting {
  return SETTINGS.find((setting) => setting.key === key)!;
}

export interface Sizes {
  /** In place of each setting's own; null: its own. */
  users: number | null;
  events: number | null;
  /** 1 M users in c. */
  full: boolean;
}

const FULL_USERS = 1_000_000;

/** The chosen settings, in the order of the table. Throws for a letter that there is none of. */
export function chosenSettings(letters: string | null, sizes: Sizes): Setting[] {
  const keys = letters === null ? SETTINGS.map(({ key }) => key) : letters.split(',');
  for (const key of keys) {
    if (SETTINGS.some((setting) => setting.key === key)) continue;
    const known = SETTINGS.map((setting) => setting.key).join(',');
    throw new Error(`--settings has "${key}": there are ${known}`);
  }
  return SETTINGS.filter(({ key }) => keys.includes(key)).map((setting) => sized(setting, sizes));
}

function sized(setting: Setting, { users, events, full }: Sizes): Setting {
  const isFull = full && setting.key === 'c';
  const resized: Setting = {
    ...setting,
    ...(isFull && { users: FULL_USERS, title: '1 M users, TaskManager of 2 GB' }),
    ...(users !== null && { users, title: `${setting.title}; ${count(users)} users` }),
  };
  if (events === null || setting.events === 0) return resized;
  const oneValueEvents =
    setting.oneValueEvents === null ? null : Math.min(setting.oneValueEvents, events);
  return { ...resized, events, oneValueEvents };
}

function count(users: number): string {
  return users.toLocaleString('en-US');
}

/** `--smoke`: everything happens, and nothing of it means anything. */
export function smokeSettings(): Setting[] {
  return SETTINGS.map((setting) => ({
    ...setting,
    users: 400,
    events: setting.events === 0 ? 0 : 2_000,
    ...(setting.heavy !== null && { heavy: { every: 200, paddingBytes: 100_000 } }),
    ...(setting.killAtEventsPerSecond !== null && { killAtEventsPerSecond: 1_000 }),
    oneValueEvents: null,
  }));
}
