/**
 * What RocksDB costs one slot: `node bench/rocksdb.ts [SETUP...] [--seconds N] [--scale N]
 * [--memtables MIB] [--cache MIB] [--no-reads]`. Each setup runs in a process of its own; without
 * names all of them run. The pattern is that of a slot at 100,000 events/s with 100,000 users:
 * every 8th event of a user puts a chunk row and deletes the oldest, a checkpoint per 60 s puts
 * each user's head and tail, 4,000 times per second one user's chunks are read.
 *
 * `--scale 4` (the default) takes a quarter of the users, the memtables and the cache at the full
 * rate, so that the database is written over in 25 s instead of 100 s. The CPU time is that of the
 * process with RocksDB's threads, until these have come to rest; what building the rows takes is
 * measured by the setup `none` and not taken off.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  CHUNK,
  HEAD,
  PROFILE,
  rowKey,
  type UserRow,
  userPrefix,
} from '../worker/src/state/rows.ts';
import { openStore, SETUPS, type Setup, type Sizes, type Store } from './rocksdb-stores.ts';

const MEBIBYTE = 1024 ** 2;
const USERS = 100_000;
const EVENTS_PER_SECOND = 100_000;
const EVENTS_PER_CHUNK = 8;
const CHUNKS = 13;
const KEY_GROUPS = 1024;
const CHECKPOINT_EVENTS = 60 * EVENTS_PER_SECOND;
const READS_PER_SECOND = 4_000;
const HOT_SHARE = 0.2;
/** Different chunk bodies: enough that no compressor finds one of them twice in its window. */
const BODIES = 4_096;
/** RocksDB is at rest when the process takes less than this in REST_MS. */
const REST_CPU_US = 10_000;
const REST_MS = 250;

interface RunOptions extends Sizes {
  seconds: number;
  scale: number;
  reads: boolean;
}

/** Repeatable, and cheap beside what is measured. */
class Random {
  #state = 0x2545f491;

  below(limit: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % limit;
  }
}

/** Key groups at random, as a hash gives them: the order of the users is not that of the keys. */
class Users {
  readonly #prefixes: Buffer[];
  /** Number of each user's oldest chunk. */
  readonly #oldest: Uint32Array;
  readonly #bodies: Buffer[];
  readonly #profile: Buffer;
  readonly #random: Random;
  readonly #ring: boolean;
  /** With the open events. */
  readonly #head: Buffer;
  count: number;

  constructor(count: number, random: Random, ring: boolean) {
    this.count = count;
    this.#random = random;
    this.#ring = ring;
    this.#oldest = new Uint32Array(count);
    this.#prefixes = Array.from({ length: count }, (_, n) =>
      userPrefix(random.below(KEY_GROUPS), `u${String(n).padStart(10, '0')}`),
    );
    this.#bodies = Array.from({ length: BODIES }, () => Buffer.from(this.#events()));
    this.#head = this.#bodies[0]!.subarray(0, 850);
    this.#profile = Buffer.concat([...this.#bodies.slice(0, 3)]).subarray(0, 2_800);
  }

  #events(): string {
    const random = this.#random;
    const user = `u${String(random.below(this.count)).padStart(10, '0')}`;
    const first = random.below(1_000_000);
    return Array.from({ length: EVENTS_PER_CHUNK }, (_, n) =>
      JSON.stringify({
        event_id: random.below(0xffffffff),
        user_id: user,
        seq: first + n,
        type: ['click', 'view', 'cart', 'search'][random.below(4)],
        page: `/p/${random.below(0xffffffff).toString(16)}`,
        ts: 1_700_000_000_000 + random.below(0xffffffff),
        triggerable: random.below(2) === 0,
      }),
    ).join(',');
  }

  #chunkKey(user: number, chunk: number): Buffer {
    return rowKey(this.#prefixes[user]!, CHUNK, this.#ring ? chunk % CHUNKS : chunk * 8);
  }

  load(user: number, ops: UserRow[]): number {
    const prefix = this.#prefixes[user]!;
    ops.push({ key: rowKey(prefix, PROFILE), value: this.#profile });
    let bytes = this.#profile.length;
    for (let chunk = 0; chunk < CHUNKS; chunk++) {
      const value = this.#bodies[this.#random.below(BODIES)]!;
      ops.push({ key: this.#chunkKey(user, chunk), value });
      bytes += value.length;
    }
    return bytes + this.checkpoint(user, ops);
  }

  /** The next chunk of a user, and the end of its oldest. */
  advance(ops: UserRow[]): number {
    const user = this.#random.below(this.count);
    const oldest = this.#oldest[user]!++;
    const value = this.#bodies[this.#random.below(BODIES)]!;
    ops.push({ key: this.#chunkKey(user, oldest + CHUNKS), value });
    if (!this.#ring) ops.push({ key: this.#chunkKey(user, oldest), value: null });
    return value.length;
  }

  checkpoint(user: number, ops: UserRow[]): number {
    const prefix = this.#prefixes[user]!;
    ops.push({ key: rowKey(prefix, HEAD), value: this.#head });
    return this.#head.length;
  }

  chunkKeys(): Buffer[] {
    const user = this.#random.below(Math.ceil(this.count * HOT_SHARE));
    const oldest = this.#oldest[user]!;
    return Array.from({ length: CHUNKS }, (_, n) => this.#chunkKey(user, oldest + n));
  }
}

interface Measured {
  cpu: number;
  jsCpu: number;
  readCpuUs: number;
  readP50Us: number;
  readP99Us: number;
  writeMaxMs: number;
  wall: number;
  writtenMb: number;
  readMb: number;
  diskMb: number;
  rssMb: number;
  fillCpu: number;
}

class Run {
  readonly #store: Store;
  readonly #users: Users;
  readonly #options: RunOptions;
  readonly #batchBytes: number;
  readonly #readUs: number[] = [];
  #readCpuUs = 0;
  #writeMaxMs = 0;

  constructor(store: Store, users: Users, options: RunOptions, batchBytes: number) {
    this.#store = store;
    this.#users = users;
    this.#options = options;
    this.#batchBytes = batchBytes;
  }

  async measure(directory: string): Promise<Measured> {
    const fill = process.cpuUsage();
    this.#all((user, ops) => this.#users.load(user, ops));
    await rest();
    const fillCpu = cpuSince(fill);
    this.#writeMaxMs = 0;
    const from = { cpu: process.cpuUsage(), js: process.threadCpuUsage(), io: io() };
    const started = performance.now();
    await this.#work();
    const wall = (performance.now() - started) / 1000;
    const js = process.threadCpuUsage(from.js);
    await rest();
    const to = io();
    this.#readUs.sort((a, b) => a - b);
    const at = (share: number) => this.#readUs[Math.floor(this.#readUs.length * share)] ?? 0;
    return {
      cpu: cpuSince(from.cpu),
      jsCpu: (js.user + js.system) / 1e6,
      readCpuUs: this.#readUs.length === 0 ? 0 : this.#readCpuUs / this.#readUs.length,
      readP50Us: at(0.5),
      readP99Us: at(0.99),
      writeMaxMs: this.#writeMaxMs,
      wall,
      writtenMb: (to.written - from.io.written) / 1e6,
      readMb: (to.read - from.io.read) / 1e6,
      diskMb: (await diskBytes(directory)) / 1e6,
      rssMb: peakRssMb(),
      fillCpu,
    };
  }

  async #work(): Promise<void> {
    const { seconds, scale, reads } = this.#options;
    const events = seconds * EVENTS_PER_SECOND;
    const checkpoint = CHECKPOINT_EVENTS / scale;
    const eventsPerRead = EVENTS_PER_SECOND / READS_PER_SECOND;
    // All of the database is scanned once per events that write it over.
    const scans = reads ? Math.floor((seconds * scale * KEY_GROUPS) / 130) : 0;
    const started = performance.now();
    let nextCheckpoint = checkpoint / 2;
    let scanned = 0;
    let toRead = 0;
    for (let done = 0; done < events; ) {
      const ops: UserRow[] = [];
      for (let bytes = 0; bytes < this.#batchBytes && done < events; done += EVENTS_PER_CHUNK) {
        bytes += this.#users.advance(ops);
        toRead += EVENTS_PER_CHUNK / eventsPerRead;
      }
      this.#write(ops);
      if (!reads) toRead = 0;
      for (; toRead >= 1; toRead--) this.#read();
      if (done >= nextCheckpoint) {
        nextCheckpoint += checkpoint;
        this.#all((user, rows) => this.#users.checkpoint(user, rows));
      }
      for (; scanned < (scans * done) / events; scanned++) await this.#scan(scanned % KEY_GROUPS);
      const early = (done / EVENTS_PER_SECOND) * 1000 - (performance.now() - started);
      if (early > 2) await sleep(early);
    }
  }

  #write(ops: readonly UserRow[]): void {
    const started = performance.now();
    this.#store.write(ops);
    this.#writeMaxMs = Math.max(this.#writeMaxMs, performance.now() - started);
  }

  #read(): void {
    const keys = this.#users.chunkKeys();
    const cpu = process.threadCpuUsage();
    const started = performance.now();
    const rows = this.#store.getMany(keys);
    this.#readUs.push((performance.now() - started) * 1000);
    const took = process.threadCpuUsage(cpu);
    this.#readCpuUs += took.user + took.system;
    if (rows.some((row) => row === undefined || row === null)) throw new Error('a row is missing');
  }

  async #scan(group: number): Promise<void> {
    const bounds = Buffer.alloc(4);
    bounds.writeUInt16BE(group, 0);
    bounds.writeUInt16BE(group + 1, 2);
    await this.#store.scan(bounds.subarray(0, 2), bounds.subarray(2));
  }

  #all(rowsOf: (user: number, ops: UserRow[]) => number): void {
    let ops: UserRow[] = [];
    let bytes = 0;
    for (let user = 0; user < this.#users.count; user++) {
      bytes += rowsOf(user, ops);
      if (bytes < this.#batchBytes) continue;
      this.#write(ops);
      ops = [];
      bytes = 0;
    }
    this.#write(ops);
  }
}

async function rest(): Promise<void> {
  for (let busy = true; busy; ) {
    const from = process.cpuUsage();
    await sleep(REST_MS);
    const { user, system } = process.cpuUsage(from);
    busy = user + system > REST_CPU_US;
  }
}

function cpuSince(from: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(from);
  return (user + system) / 1e6;
}

function io(): { read: number; written: number } {
  const text = readFileSync('/proc/self/io', 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1]);
  return { read: field('rchar'), written: field('wchar') };
}

function peakRssMb(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1000;
}

async function diskBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory).catch(() => [])) {
    bytes += (await stat(join(directory, name))).size;
  }
  return bytes;
}

async function runSetup(setup: Setup, options: RunOptions): Promise<Measured> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-rocksdb-'));
  try {
    const directory = join(folder, 'db');
    const store = await openStore(setup, directory, options);
    const users = new Users(USERS / options.scale, new Random(), setup.ring === true);
    const run = new Run(store, users, options, setup.batchBytes ?? MEBIBYTE);
    const measured = await run.measure(directory);
    await store.close();
    return measured;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    seconds: { type: 'string', default: '25' },
    scale: { type: 'string', default: '4' },
    memtables: { type: 'string', default: '64' },
    cache: { type: 'string', default: '128' },
    reads: { type: 'boolean', default: true },
    child: { type: 'boolean', default: false },
  },
});

function print(name: string, cells: readonly string[]): void {
  console.log(`${name.padEnd(22)}${cells.map((cell) => cell.padStart(8)).join('')}`);
}

if (values.child) {
  const scale = Number(values.scale);
  const measured = await runSetup(SETUPS[positionals[0]!]!, {
    seconds: Number(values.seconds),
    scale,
    memtableBytes: (Number(values.memtables) * MEBIBYTE) / scale,
    blockCacheBytes: (Number(values.cache) * MEBIBYTE) / scale,
    reads: values.reads,
  });
  console.log(JSON.stringify(measured));
} else {
  console.log('CPU seconds and MB per 1,000,000 events; get = one multi-get of 13 rows');
  const heads = 'cpu s|js|threads|MB out|MB in|disk MB|rss MB|get us|p50|p99|write ms|wall s|fill';
  print('', heads.split('|'));
  for (const name of positionals.length > 0 ? positionals : Object.keys(SETUPS)) {
    if (SETUPS[name] === undefined) throw new Error(`no setup '${name}'`);
    print(name, cellsOf(await inChild(name)));
  }
}

async function inChild(name: string): Promise<Measured> {
  const { seconds, scale, memtables, cache, reads } = values;
  const numbers = Object.entries({ seconds, scale, memtables, cache });
  const child = spawn(
    process.execPath,
    [
      fileURLToPath(import.meta.url),
      '--child',
      reads ? '--reads' : '--no-reads',
      ...numbers.flatMap(([option, value]) => [`--${option}`, value]),
      name,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let out = '';
  for await (const text of child.stdout) out += text;
  return JSON.parse(out);
}

function cellsOf(m: Measured): string[] {
  const millions = (Number(values.seconds) * EVENTS_PER_SECOND) / 1e6;
  return [
    (m.cpu / millions).toFixed(2),
    (m.jsCpu / millions).toFixed(2),
    ((m.cpu - m.jsCpu) / millions).toFixed(2),
    (m.writtenMb / millions).toFixed(0),
    (m.readMb / millions).toFixed(0),
    m.diskMb.toFixed(0),
    m.rssMb.toFixed(0),
    m.readCpuUs.toFixed(1),
    m.readP50Us.toFixed(0),
    m.readP99Us.toFixed(0),
    m.writeMaxMs.toFixed(1),
    m.wall.toFixed(1),
    m.fillCpu.toFixed(1),
  ];
}
