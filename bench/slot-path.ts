/**
 * CPU per event of one whole slot in this process: the product's SlotTask with its RocksDB, its
 * exchange to itself, filter, outbox and checkpoints; records come from memory in place of Kafka,
 * profiles from a function, bodies and segments go nowhere. What `one-slot` measures without broker
 * and processes, in a minute: for work on the hot path, with `node --cpu-prof`.
 *
 *     npm run bench -- slot-path [users] [events] [checkpoint every ... events] [slotCache]
 *                                  [process memory] [letter of the setting with the script]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { MemoryStore } from '../worker/src/checkpoint/memory-store.ts';
import { realEnv } from '../worker/src/runtime/env.ts';
import { RecordColumns } from '../worker/src/source/record-columns.ts';
import type { SourceBatch, SplitReader } from '../worker/src/source/source.ts';
import { openRocksDb } from '../worker/src/state/rocksdb-backend.ts';
import { setHeapFlags } from '../worker/src/taskmanager/heap-flags.ts';
import { SlotTask } from '../worker/src/taskmanager/slot-task.ts';
import { openActionExecutor } from './black-hole.ts';
import { EventStream, historyJson, profileJson, visitJson } from './dataset.ts';
import { settingOf } from './settings.ts';
import { slotPlan } from './slot-plan.ts';

const USERS = Number(process.argv[2] ?? 100_000);
const EVENTS = Number(process.argv[3] ?? 6_000_000);
const CHECKPOINT_EVENTS = Number(process.argv[4] ?? 6_000_000);
/** `20Mi` holds few of 100,000 users: what reads and evictions cost. */
const SLOT_CACHE = process.argv[5] ?? '1Gi';
/** `1Gi` and a quarter of the users: one slot of four. */
const PROCESS_MEMORY = process.argv[6] ?? '4Gi';
/** `g` asks for the history on each event. */
const SCRIPT_OF = process.argv[7] ?? 'a';
const BATCH = 1_000;
/** Distinct events in memory; they come again and again, each time as new offsets. */
const DISTINCT = 400_000;
const MEBIBYTE = 1024 * 1024;

const split = { index: 0, id: 'bench-0', sourceId: 'bench', partition: 0 };

/** Endless records: each user once, then uniformly drawn ones. */
class Records implements SplitReader {
  readonly #first: RecordColumns[] = [];
  readonly #rest: RecordColumns[] = [];
  #emitted = 0;
  limit = USERS;

  constructor() {
    const stream = new EventStream(USERS);
    for (let n = 0; n < USERS; n += BATCH) this.#first.push(columns(stream));
    for (let n = 0; n < DISTINCT; n += BATCH) this.#rest.push(columns(stream));
  }

  assign(): void {}

  async poll(maxWaitMs: number): Promise<SourceBatch | null> {
    if (this.#emitted >= this.limit) {
      await wait(maxWaitMs);
      return null;
    }
    const n = this.#emitted / BATCH;
    const { length } = this.#first;
    const records = n < length ? this.#first[n]! : this.#rest[(n - length) % this.#rest.length]!;
    for (let i = 0; i < BATCH; i++) {
      records.offsets[i] = this.#emitted + i;
      records.timestamps[i] = 1_700_000_000_000 + this.#emitted;
    }
    this.#emitted += BATCH;
    // As a fetch would: another event loop turn.
    await null;
    const endOffset = this.limit;
    return { splitIndex: 0, records, nextOffset: this.#emitted, endOffset, finished: false };
  }

  async close(): Promise<void> {}
}

function columns(stream: EventStream): RecordColumns {
  const records = Array.from({ length: BATCH }, (_, i) => ({
    offset: i,
    timestamp: 0,
    value: Buffer.from(stream.next().json),
  }));
  return RecordColumns.of(records);
}

/** Segments are made whole and dropped. */
class Nowhere extends MemoryStore {
  bytes = 0;
  override async put(_name: string, content: Buffer): Promise<void> {
    this.bytes += content.length;
  }
}

// As the process of the slot threads does.
setHeapFlags();
const folder = mkdtempSync(join(tmpdir(), 'triggerjob-slot-path-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const jobPlan = slotPlan(SLOT_CACHE, PROCESS_MEMORY, settingOf(SCRIPT_OF).script);
const store = new Nowhere(realEnv);
const reader = new Records();
const waits = new Map<string, () => void>();
const happens = (what: string) => new Promise<void>((resolve) => waits.set(what, resolve));
const script = { version: 'bench', text: jobPlan.filter.script, language: 'aviator' as const };
const range = { first: 0, last: jobPlan.maxParallelism - 1 };
const { slotBlockCacheBytes, slotMemtableBytes } = jobPlan.memory;
const task: SlotTask = new SlotTask(
  {
    env: realEnv,
    store,
    backend: await openRocksDb({
      directory: join(folder, 'db'),
      blockCacheBytes: slotBlockCacheBytes,
      memtableBytes: slotMemtableBytes,
    }),
    profileApi: {
      fetch: async (userId) => {
        const user = Number(userId.slice(1));
        const history = JSON.parse(historyJson(user)) as object[];
        const texts = history.map((event) => JSON.stringify(event));
        const answer = { profile: profileJson(user), visit: visitJson(user), history: texts };
        return { kind: 'found', ...answer };
      },
      stats: () => ({}),
      close: async () => {},
    },
    action: openActionExecutor(),
    deadLetter: { write: async () => {}, close: async () => {} },
    reader,
    openReader: () => Promise.resolve(new Records()),
    report: (report) => {
      if (report.type === 'decline') console.log('declined:', report.reason);
      waits.get(report.type)?.();
    },
    send: (_, frame, attempt) => task.receive(0, frame, attempt),
    credit: (_, bytes, attempt) => task.credited(0, bytes, attempt),
    fault: (fault) => {
      console.error(fault);
      process.exit(1);
    },
  },
  {
    jobId: 'bench',
    lineage: 'bench',
    plan: jobPlan,
    script,
    ranges: [range],
    attempts: [1],
    task: {
      subtask: 0,
      slot: 0,
      attempt: 1,
      range,
      splits: [{ split, offset: 0, clock: -1 }],
      restore: [],
      restoredId: 0,
      replaces: false,
    },
    spoolPath: join(folder, 'spool'),
    mutant: null,
  },
);

const figures = () => task.metrics(0);
async function until(events: number): Promise<void> {
  while (figures().recordsProcessed < events || figures().parked > 0) await wait(20);
}

let checkpointId = 0;
async function checkpoint(): Promise<string> {
  const startedAt = performance.now();
  const before = store.bytes;
  const [drained, acked] = [happens('drained'), happens('ack')];
  task.trigger(++checkpointId, Date.now(), script);
  await drained;
  const drainedMs = performance.now() - startedAt;
  await acked;
  const mebibytes = ((store.bytes - before) / MEBIBYTE).toFixed(1);
  const ms = (performance.now() - startedAt).toFixed(0);
  return `drained after ${drainedMs.toFixed(0)} ms, stored ${mebibytes} MiB after ${ms} ms`;
}

function cpuSeconds(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

/** CPU by the names of threads; those of one pool bear one name. */
function threadSeconds(): Map<string, number> {
  const found = new Map<string, number>();
  for (const id of readdirSync('/proc/self/task')) {
    const stat = readFileSync(`/proc/self/task/${id}/stat`, 'utf8');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    found.set(name, (found.get(name) ?? 0) + ticks / 100);
  }
  return found;
}

await task.start();
let mark = process.cpuUsage();
let at = performance.now();
await until(USERS);
const filled = cpuSeconds(mark);
console.log(`filled ${USERS} users: ${((1e6 * filled) / USERS).toFixed(1)} us of CPU each`);
mark = process.cpuUsage();
console.log(`first checkpoint: ${await checkpoint()}, ${cpuSeconds(mark).toFixed(2)} s of CPU`);

reader.limit = USERS + EVENTS;
mark = process.cpuUsage();
at = performance.now();
const thread = process.threadCpuUsage();
const threads = threadSeconds();
for (let done = 0; done < EVENTS; ) {
  const events = Math.min(CHECKPOINT_EVENTS, EVENTS - done);
  done += events;
  await until(USERS + done - 1_000);
  console.log(`checkpoint: ${await checkpoint()}`);
}
const seconds = (performance.now() - at) / 1000;
const cpu = cpuSeconds(mark);
const { user, system } = process.threadCpuUsage(thread);
const own = (user + system) / 1e6;
const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
console.log(`events per CPU-second: ${Math.round(EVENTS / cpu)}`);
console.log(`events per second:     ${Math.round(EVENTS / seconds)}`);
console.log(`us of CPU per event:   ${((1e6 * cpu) / EVENTS).toFixed(2)}`);
console.log(`  of which this thread ${((1e6 * own) / EVENTS).toFixed(2)}`);
for (const [name, end] of threadSeconds()) {
  const us = (1e6 * (end - (threads.get(name) ?? 0))) / EVENTS;
  if (us >= 0.01) console.log(`  ${name.padEnd(20)} ${us.toFixed(2)}`);
}
const mib = [rss, heapUsed, external, arrayBuffers].map((bytes) => Math.round(bytes / MEBIBYTE));
console.log(`MiB: rss ${mib[0]}, heap ${mib[1]}, external ${mib[2]}, array buffers ${mib[3]}`);
console.log(`pause p99 ${figures().pauseP99Ms} ms, max ${figures().pauseMaxMs} ms`);
process.exit(0);
