/**
 * The checkpoint protocol under crashes, lost replies, outages, damage and a second leader:
 * publish, takeover, recover and sweep run as they are, on a MemoryStore whose every effect is a
 * gate of a seeded scheduler.
 *
 * What must hold, whatever happens (the checker shares no code with the protocol):
 *  S1 an index of the log never changes once written, and the log is dense (P39);
 *  S2 epochs never fall along the log, and each is one writer's: no stale leader publishes (I5);
 *  S3 what a leader was told is published is in the log;
 *  S4 recover gives the newest checkpoint that counts, passing over only damaged ones (P42, I6);
 *  S5 no sweep removes what a restore or a task can still need (P46-P48);
 *  S6 no checkpoint id is drawn twice.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { setImmediate as quiet } from 'node:timers/promises';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { collectGarbage, type TaskRoots } from './gc.ts';
import { JobLog } from './log.ts';
import { objectsOf } from './manifest.ts';
import { MemoryStore, type StoreCall, type StoredObjects } from './memory-store.ts';
import { segmentPath } from './paths.ts';
import { publishCheckpoint } from './publish.ts';
import { recoverJob } from './recover.ts';
import type { BaseRef, DeltaRef, LogRecord, Manifest, ObjectRef } from './snapshot.ts';

const RETAINED = 2;
const MIN_AGE_MS = 3;
const GROUPS = 4;
const RANGE = { first: 0, last: GROUPS - 1 };

type Action =
  | 'publish'
  | 'base'
  | 'abort'
  | 'sweep'
  | 'restart'
  | 'damage-manifest'
  | 'damage-object';
type Fault = 'none' | 'crash' | 'throw' | 'outage';
type Mutant =
  | 'none'
  | 'create is put'
  | 'takeovers are not seen'
  | 'sweep without end check'
  | 'sweep with old roots';

class Violation extends Error {}

/** Thrown nowhere: the gate of a crashed process never opens. */
interface Gate {
  actor: Actor;
  call: StoreCall;
  open: () => void;
  refuse: (fault: Error) => void;
}

interface Actor {
  name: string;
  alive: boolean;
  /** Calls that still fail of an outage. */
  outage: number;
  confirmed: { index: number; kind: string }[];
}

/** The tasks, as far as the protocol sees them: one subtask that owns all key groups. */
interface Tasks {
  leaderEpoch: number;
  attempt: number;
  bases: BaseRef[];
  deltas: DeltaRef[];
  /** Owed, under way, or restored from: the answer to a sweep (P47). */
  names: Set<string>;
  lastId: number;
  /** Index of the last restore record when they were deployed. */
  root: number;
}

function random(seed: number): () => number {
  let state = seed * 2654435761 + 12345;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    const mixed = Math.imul(state ^ (state >>> 13), 3266489917);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  };
}

const hits = new Map<string, number>();
function hit(what: string): void {
  hits.set(what, (hits.get(what) ?? 0) + 1);
}

interface Options {
  seed: number;
  mutant: Mutant;
  /** Processes that may run at once, and in all. */
  leaders: number;
  lives: number;
  script: (life: number, rng: () => number) => Action[];
  fault: (gate: number, rng: () => number) => Fault;
}

class World {
  readonly objects: StoredObjects = new Map();
  readonly options: Options;
  readonly rng: () => number;
  readonly waiting: Gate[] = [];
  readonly actors: Actor[] = [];
  readonly damaged = new Set<string>();
  readonly drawn = new Set<number>();
  readonly written = new Map<string, string>();
  tasks: Tasks;
  violation: Error | null = null;
  nowMs = 1;
  gates = 0;
  lives = 0;
  ids = 0;
  oldRoots: readonly TaskRoots[] | null = null;

  constructor(options: Options) {
    this.options = options;
    this.rng = random(options.seed);
    this.tasks = {
      leaderEpoch: 0,
      attempt: 0,
      bases: [],
      deltas: [],
      names: new Set(),
      lastId: 0,
      root: -2,
    };
  }

  readonly env: Env = {
    now: () => this.nowMs,
    monotonic: () => this.nowMs,
    random: () => this.rng(),
    id: () => `n${++this.ids}`,
    timer: (_, fn) => {
      let on = true;
      queueMicrotask(() => on && fn());
      return { cancel: () => (on = false) };
    },
  };

  async run(): Promise<void> {
    for (;;) {
      while (this.#running() < this.options.leaders && this.lives < this.options.lives) {
        this.#spawn();
      }
      await quiet();
      if (this.violation !== null) throw this.violation;
      if (this.waiting.length === 0) {
        if (this.#running() === 0 && this.lives >= this.options.lives) break;
        continue;
      }
      this.#step();
    }
    checkLog(this);
    checkReachable(this);
  }

  #running(): number {
    return this.actors.filter((actor) => actor.alive).length;
  }

  #step(): void {
    const at = Math.floor(this.rng() * this.waiting.length);
    const [gate] = this.waiting.splice(at, 1) as [Gate];
    const { actor, call } = gate;
    this.nowMs++;
    let fault = this.options.fault(this.gates++, this.rng);
    if (actor.outage > 0) {
      actor.outage--;
      fault = 'throw';
    }
    const where = `${call.when} ${call.operation} ${kindOf(call.name)}`;
    switch (fault) {
      case 'none':
        gate.open();
        return;
      case 'crash':
        hit(`crash ${where}`);
        actor.alive = false;
        for (let i = this.waiting.length - 1; i >= 0; i--) {
          if (this.waiting[i]?.actor === actor) this.waiting.splice(i, 1);
        }
        return;
      case 'outage':
        hit('outage');
        actor.outage = 12;
        gate.refuse(new Error('outage'));
        return;
      case 'throw':
        hit(`${call.when === 'after' ? 'lost reply' : 'failed call'} ${call.operation}`);
        gate.refuse(new Error('connection reset'));
    }
  }

  #spawn(): void {
    const life = this.lives++;
    const actor: Actor = { name: `jm-${life}`, alive: true, outage: 0, confirmed: [] };
    this.actors.push(actor);
    const store = new MemoryStore(this.env, this.objects);
    store.onCall = (call) => this.#gate(actor, call);
    if (this.options.mutant === 'create is put') {
      store.create = async (name, content) => {
        await store.put(name, content);
        return 'created';
      };
    }
    if (this.options.mutant === 'takeovers are not seen') {
      const get = store.get.bind(store);
      store.get = async (name) => {
        const found = await get(name);
        if (found === null || !name.startsWith('log/') || actor.confirmed.length === 0)
          return found;
        const record = JSON.parse(String(found)) as LogRecord;
        if (record.writer === actor.name) return found;
        return Buffer.from(JSON.stringify({ ...record, leaderEpoch: 0 }));
      };
    }
    lead(this, actor, store, this.options.script(life, this.rng)).catch((fault: unknown) => {
      if (!actor.alive) return;
      actor.alive = false;
      if (fault instanceof TriggerJobError && fault.code !== 'INVARIANT')
        hit(`ended by ${fault.code}`);
      else if (fault instanceof Error && fault.message.match(/connection reset|outage/))
        hit('ended by store');
      else this.violation ??= fault as Error;
    });
  }

  async #gate(actor: Actor, call: StoreCall): Promise<void> {
    if (call.when === 'after' && call.operation !== 'get') {
      try {
        if (call.operation === 'put' || call.operation === 'create') checkWritten(this, call.name);
        if (call.operation === 'delete') checkReachable(this);
      } catch (fault) {
        this.violation ??= fault as Error;
      }
    }
    if (!actor.alive) return new Promise(() => {});
    return new Promise((open, refuse) => {
      this.waiting.push({ actor, call, open, refuse });
    });
  }
}

function kindOf(name: string): string {
  return name.slice(0, name.indexOf('/'));
}

// --- the checker ---------------------------------------------------------------------------------

function rawLog(world: World): LogRecord[] {
  const names = [...world.objects.keys()].filter((name) => name.startsWith('log/')).sort();
  return names.map((name) => JSON.parse(String(world.objects.get(name)?.content)) as LogRecord);
}

function checkWritten(world: World, name: string): void {
  const now = String(world.objects.get(name)?.content);
  const before = world.written.get(name);
  world.written.set(name, now);
  if (before !== undefined && before !== now) throw new Violation(`S1: ${name} was replaced`);
}

function checkLog(world: World): void {
  const log = rawLog(world);
  const owner = new Map<number, string>();
  let epoch = 0;
  log.forEach((record, i) => {
    if (record.logIndex !== i) throw new Violation(`S1: a hole before ${record.logIndex}`);
    if (record.leaderEpoch < epoch) throw new Violation(`S2: epoch ${record.leaderEpoch} at ${i}`);
    if (record.kind === 'takeover') {
      if (record.leaderEpoch <= epoch) throw new Violation(`S2: epoch ${epoch} is claimed twice`);
      owner.set(record.leaderEpoch, record.writer);
    } else if (record.kind !== 'genesis' && owner.get(record.leaderEpoch) !== record.writer) {
      throw new Violation(`S2: ${record.writer} writes in the epoch of another`);
    }
    epoch = record.leaderEpoch;
  });
  for (const actor of world.actors) {
    for (const { index, kind } of actor.confirmed) {
      const record = log[index];
      if (record?.writer !== actor.name || record.kind !== kind) {
        throw new Violation(`S3: ${kind} of ${actor.name} is not at ${index}`);
      }
    }
  }
}

/**
 * The checkpoints that count after `records`; `kept`: those that never fell out of the newest
 * RETAINED.
 */
function countOf(records: readonly LogRecord[]): { line: ObjectRef[]; kept: ObjectRef[] } {
  let line: ObjectRef[] = [];
  const fallen = new Set<string>();
  for (const record of records) {
    if (record.kind === 'checkpoint') line = [...line, record.manifest];
    if (record.kind === 'restore' && record.manifest !== null) {
      const { name } = record.manifest;
      line = line.slice(0, line.findIndex((ref) => ref.name === name) + 1);
    }
    for (const ref of line.slice(0, -RETAINED)) fallen.add(ref.name);
  }
  return { line, kept: line.slice(-RETAINED).filter((ref) => !fallen.has(ref.name)) };
}

function checkReachable(world: World): void {
  const { kept } = countOf(rawLog(world));
  const needed = new Set(world.tasks.names);
  for (const { name } of kept) {
    const found = world.objects.get(name);
    if (world.damaged.has(name)) continue;
    if (found === undefined) throw new Violation(`S5: ${name} was swept`);
    const manifest = JSON.parse(String(found.content)) as Manifest;
    for (const object of objectsOf(manifest)) needed.add(object.name);
  }
  for (const name of needed) {
    if (world.objects.has(name) || world.damaged.has(name) || !world.written.has(name)) continue;
    throw new Violation(`S5: ${name} was swept`);
  }
}

function checkRecovered(world: World, log: JobLog, id: number, passedOver: number[]): void {
  const last = log.records.at(-1)?.logIndex ?? -1;
  const records = rawLog(world).slice(0, last + 1);
  const newest = countOf(records).line.at(-1);
  if (newest === undefined || !newest.name.startsWith(`manifests/${id}-`)) {
    throw new Violation(`S4: ${id} was restored, ${newest?.name} counts`);
  }
  for (const skipped of passedOver) {
    const isDamaged = [...world.damaged].some((name) =>
      new RegExp(`^(manifests/|segments/\\d+/)${skipped}-`).test(name),
    );
    if (!isDamaged) throw new Violation(`S4: ${skipped} was passed over without damage`);
  }
}

/** S4: giving up is right only if what is retained is damaged, or holds no state. */
function checkLost(world: World): void {
  for (const { name } of countOf(rawLog(world)).kept) {
    const manifest = JSON.parse(String(world.objects.get(name)?.content)) as Manifest;
    const names = [name, ...namesOf(manifest)];
    if (manifest.kind === 'initial' || names.some((one) => world.damaged.has(one))) continue;
    throw new Violation(`S4: ${name} is sound, but the job was given up`);
  }
}

// --- a leader, its tasks included ----------------------------------------------------------------

async function lead(world: World, actor: Actor, store: MemoryStore, script: Action[]) {
  const { env } = world;
  const log = new JobLog({ store, env, writer: actor.name, retained: RETAINED });
  await log.takeover({ lineage: `lineage of ${actor.name}`, restoredFrom: null });
  const { leaderEpoch } = log;
  actor.confirmed.push({ index: log.records.at(-1)!.logIndex, kind: 'takeover' });
  if (leaderEpoch < world.tasks.leaderEpoch) hit('a stale leader begins');
  world.tasks.leaderEpoch = Math.max(world.tasks.leaderEpoch, leaderEpoch);
  if (world.tasks.root === rootOf(log) && log.state.line.length > 0 && world.rng() < 0.6) {
    await reattach(world, log, store);
  } else {
    await restart(world, actor, log, store);
  }
  for (const action of script) {
    try {
      await act(world, actor, log, store, action);
    } catch (fault) {
      if (fault instanceof TriggerJobError && fault.code === 'LOG_UNAVAILABLE') {
        hit('log unavailable, then settled');
        await log.settle();
      } else if (!(fault instanceof TriggerJobError || fault instanceof Violation)) {
        // A failed upload or manifest: the id that was drawn is given up by name.
        const checkpointId = log.state.nextCheckpointId;
        if (!world.drawn.has(checkpointId)) throw fault;
        await log.append({ kind: 'abort', checkpointId, reason: String(fault) });
        hit('aborted after a failed call');
      } else throw fault;
    }
  }
  actor.alive = false;
  hit('script done');
}

function rootOf(log: JobLog): number {
  return log.records.findLast((record) => record.kind === 'restore')?.logIndex ?? -1;
}

function isCommanding(world: World, log: JobLog): boolean {
  return world.tasks.leaderEpoch === log.leaderEpoch;
}

async function act(world: World, actor: Actor, log: JobLog, store: MemoryStore, action: Action) {
  switch (action) {
    case 'publish':
    case 'base':
    case 'abort':
      return checkpoint(world, actor, log, store, action);
    case 'sweep':
      return sweep(world, log, store);
    case 'restart':
      return restart(world, actor, log, store);
    default:
      damage(world, action);
  }
}

async function restart(world: World, actor: Actor, log: JobLog, store: MemoryStore) {
  const before = log.records.length;
  const recovery = await recoverJob({ log, store, retained: RETAINED, verify: 'full' }).catch(
    (fault: unknown) => {
      if (fault instanceof TriggerJobError && fault.code === 'RESTORE_IMPOSSIBLE') checkLost(world);
      throw fault;
    },
  );
  const { tasks } = world;
  if (recovery.kind === 'savepoint') throw new Violation('S4: nobody asked for a savepoint');
  if (recovery.kind === 'fresh') {
    if (countOf(rawLog(world).slice(0, before)).line.length > 0) throw new Violation('S4: fresh');
    hit('fresh start');
    const manifest = manifestOf(world, log, draw(world, log), 'initial');
    const { record } = await publishCheckpoint({ log, store, env: world.env, manifest });
    actor.confirmed.push({ index: record.logIndex, kind: 'checkpoint' });
  } else {
    const passedOver = recovery.passedOver.map((one) => one.checkpointId);
    checkRecovered(world, log, recovery.checkpointId, passedOver);
    hit(passedOver.length > 0 ? 'restored an older one' : 'restored the newest');
  }
  if (!isCommanding(world, log)) return;
  const subtask = recovery.kind === 'restore' ? recovery.manifest.subtasks[0] : undefined;
  tasks.attempt++;
  tasks.bases = subtask?.bases ?? [];
  tasks.deltas = subtask?.deltas ?? [];
  tasks.names = new Set(recovery.kind === 'restore' ? namesOf(recovery.manifest) : []);
  tasks.lastId = recovery.kind === 'restore' && subtask !== undefined ? recovery.checkpointId : 0;
  tasks.root = rootOf(log);
}

function namesOf(manifest: Manifest): string[] {
  return objectsOf(manifest).map((object) => object.name);
}

/** P45: the tasks go on; the newest checkpoint is notified again, which is idempotent. */
async function reattach(world: World, log: JobLog, store: MemoryStore) {
  hit('re-attached');
  const newest = log.state.line.at(-1)!;
  const content = await store.get(newest.manifest.name);
  if (content === null || world.damaged.has(newest.manifest.name)) return;
  if (!isCommanding(world, log)) return;
  for (const name of namesOf(JSON.parse(String(content)) as Manifest))
    world.tasks.names.delete(name);
}

function draw(world: World, log: JobLog): number {
  const id = log.state.nextCheckpointId;
  if (world.drawn.has(id)) throw new Violation(`S6: checkpoint ${id} was drawn twice`);
  world.drawn.add(id);
  return id;
}

async function checkpoint(
  world: World,
  actor: Actor,
  log: JobLog,
  store: MemoryStore,
  how: 'publish' | 'base' | 'abort',
) {
  if (!isCommanding(world, log)) hit('a stale leader triggers');
  else {
    const id = draw(world, log);
    const { tasks } = world;
    if (how === 'base') {
      const object = await upload(world, store, id, 'base');
      if (!isCommanding(world, log)) return;
      tasks.bases = [{ groups: [0, 1, 2, 3], epoch: id, object }];
    }
    const object = await upload(world, store, id, 'delta');
    if (!isCommanding(world, log)) return;
    const before = tasks.deltas.filter((delta) => how !== 'base' || delta.to >= id);
    tasks.deltas = [...before, { range: RANGE, from: tasks.lastId, to: id, run: 0, object }];
    tasks.lastId = id;
    if (how === 'abort') {
      await log.append({ kind: 'abort', checkpointId: id, reason: 'declined' });
      hit('aborted');
      return;
    }
    const manifest = manifestOf(world, log, id, 'checkpoint');
    const { record } = await publishCheckpoint({ log, store, env: world.env, manifest });
    actor.confirmed.push({ index: record.logIndex, kind: 'checkpoint' });
    hit(isCommanding(world, log) ? 'published' : 'published as another took over');
    if (!isCommanding(world, log)) return;
    for (const name of namesOf(manifest)) tasks.names.delete(name);
    return;
  }
  // The stale leader goes on with what it has: the log must stop it.
  const manifest = manifestOf(world, log, log.state.nextCheckpointId, 'initial');
  await publishCheckpoint({ log, store, env: world.env, manifest });
  throw new Violation('S2: a stale leader published');
}

async function upload(world: World, store: MemoryStore, id: number, kind: 'delta' | 'base') {
  const { tasks, env } = world;
  const { attempt } = tasks;
  const nonce = env.id();
  const name = segmentPath({ attempt, checkpointId: id, subtask: 0, kind, n: 0, nonce });
  const content = Buffer.from(`rows of ${name}`);
  tasks.names.add(name);
  await store.put(name, content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  return { name, bytes: content.length, sha256 };
}

async function sweep(world: World, log: JobLog, store: MemoryStore) {
  const { mutant } = world.options;
  const ask = async (): Promise<readonly TaskRoots[] | null> => {
    // A leader that lost its tasks takes them for dead; one in ten does not answer.
    if (!isCommanding(world, log)) return [];
    if (world.rng() < 0.1) return null;
    return [{ attempt: world.tasks.attempt, subtask: 0, names: [...world.tasks.names] }];
  };
  const old = world.oldRoots;
  if (mutant === 'sweep with old roots') world.oldRoots = await ask();
  const report = await collectGarbage({
    log: mutant === 'sweep without end check' ? blind(log) : log,
    store,
    tasks: mutant === 'sweep with old roots' ? async () => old : ask,
    pinned: () => new Set(),
    highestAttempt: world.tasks.attempt,
    retained: RETAINED,
    minAgeMs: MIN_AGE_MS,
    now: world.env.now,
  });
  if (report.refused !== null) hit(`sweep refused: ${report.refused.split(':')[0]}`);
  else hit(report.deleted > 0 ? 'swept' : 'nothing to sweep');
}

function blind(log: JobLog): Pick<JobLog, 'confirmEnd' | 'state' | 'leaderEpoch'> {
  return { confirmEnd: async () => {}, state: log.state, leaderEpoch: log.leaderEpoch };
}

/** Damages the newest checkpoint, if a sound one with state is retained behind it. */
function damage(world: World, how: Action): void {
  const { kept } = countOf(rawLog(world));
  const [older, newest] = kept.map((ref) => ({ ref, found: world.objects.get(ref.name) }));
  if (older?.found === undefined || newest?.found === undefined) return;
  if ([...world.damaged].some((name) => world.objects.has(name))) return;
  const manifests = [older, newest].map(
    (one) => JSON.parse(String(one.found?.content)) as Manifest,
  );
  if (manifests[0]?.kind !== 'checkpoint') return;
  const victim =
    how === 'damage-manifest' ? newest.ref : manifests[1]?.subtasks[0]?.deltas.at(-1)?.object;
  if (victim === null || victim === undefined) return;
  const content = world.objects.get(victim.name)?.content;
  if (content === undefined) return;
  content[content.length >> 1] = content[content.length >> 1]! ^ 0x20;
  world.damaged.add(victim.name);
  // The tasks hold that interval's rows in memory no more; a real one would fail the same way.
  world.tasks.root = -2;
  hit(how);
}

function manifestOf(world: World, log: JobLog, id: number, kind: Manifest['kind']): Manifest {
  const { attempt, bases, deltas } = world.tasks;
  const script = { version: 'v', text: 'true', language: 'aviator' as const };
  return {
    format: 1,
    checkpointId: id,
    leaderEpoch: log.leaderEpoch,
    kind,
    lineage: log.state.lineage ?? '',
    job: { namespace: 'default', name: 'sim' },
    maxParallelism: GROUPS,
    parallelism: 1,
    attempt,
    triggeredAt: 0,
    completedAt: 0,
    splits: [],
    script,
    subtasks:
      kind === 'initial'
        ? []
        : [
            {
              subtask: 0,
              attempt,
              range: RANGE,
              bases,
              deltas,
              volatile: null,
              splits: [],
              script,
              ledger: NOTHING,
              figures: NO_FIGURES,
            },
          ],
  };
}
const NOTHING = { accepted: 0, noMatch: 0, delivered: 0, deadLettered: 0, parked: 0, inOutbox: 0 };
const NO_FIGURES = {
  alignmentMs: 0,
  syncMs: 0,
  asyncMs: 0,
  startDelayMs: 0,
  uploadedBytes: 0,
  stateBytes: 0,
  users: 0,
};

// --- the runs ------------------------------------------------------------------------------------

const SCRIPT: Action[] = [
  'publish',
  'publish',
  'abort',
  'base',
  'sweep',
  'publish',
  'publish',
  'sweep',
];
const AFTERWARDS: Action[] = ['publish', 'sweep', 'restart', 'publish', 'publish', 'sweep'];

function scripted(fault: Options['fault'], last: Action[], lives = 3): Options {
  const script = (life: number) => (life === 0 ? [...SCRIPT, ...last] : AFTERWARDS);
  return { seed: 1, mutant: 'none', leaders: 1, lives, script, fault };
}

const ALL: Action[] = [
  'publish',
  'publish',
  'publish',
  'base',
  'abort',
  'sweep',
  'sweep',
  'restart',
];
function seeded(seed: number, mutant: Mutant, faults = 1): Options {
  return {
    seed,
    mutant,
    leaders: 2,
    lives: 6,
    script: (_, rng) =>
      Array.from({ length: 4 + Math.floor(rng() * 10) }, (): Action => {
        const drawn = rng();
        if (drawn < 0.03) return 'damage-manifest';
        if (drawn < 0.06) return 'damage-object';
        return ALL[Math.floor(rng() * ALL.length)] ?? 'publish';
      }),
    fault: (_, rng) => {
      const drawn = rng() / faults;
      if (drawn < 0.006) return 'crash';
      if (drawn < 0.03) return 'throw';
      return drawn < 0.034 ? 'outage' : 'none';
    },
  };
}

async function runAll(all: Iterable<Options>): Promise<number> {
  let runs = 0;
  for (const options of all) {
    const world = new World(options);
    try {
      await world.run();
    } catch (fault) {
      const log = rawLog(world).map((r) => `${r.logIndex} ${r.kind} ${r.leaderEpoch} ${r.writer}`);
      throw new Error(`seed ${options.seed}: ${(fault as Error).stack}\n${log.join('\n')}`);
    }
    runs++;
  }
  return runs;
}

test('every crash point, failed call and lost reply of a leader and its successor', async () => {
  const probe = new World(scripted(() => 'none', ['restart'], 1));
  await probe.run();
  const runs: Options[] = [];
  for (const last of [['restart'], ['damage-manifest', 'restart'], ['damage-object', 'restart']]) {
    const actions = last as Action[];
    for (let at = 0; at < probe.gates + 40; at++) {
      for (const fault of ['crash', 'throw', 'outage'] as const) {
        if (fault === 'outage' && at % 4 !== 0) continue; // it spans 12 calls
        runs.push(scripted((gate) => (gate === at ? fault : 'none'), actions));
      }
    }
  }
  for (let at = 0; at < probe.gates; at += 3) {
    for (let more = 1; more < 90; more += 4) {
      runs.push(scripted((gate) => (gate === at || gate === at + more ? 'crash' : 'none'), []));
    }
  }
  console.log(`${await runAll(runs)} runs over ${probe.gates} gates`);
  for (const last of ['put', 'create', 'get', 'list', 'delete']) {
    assert.ok(
      [...hits.keys()].some((key) => key.startsWith(`crash before ${last}`)),
      last,
    );
    assert.ok(
      [...hits.keys()].some((key) => key.startsWith(`crash after ${last}`)),
      last,
    );
  }
});

test('two leaders at once, 500 seeded schedules with faults', async () => {
  const runs = Array.from({ length: 500 }, (_, seed) => seeded(seed, 'none'));
  await runAll(runs);
  const wanted = [
    ...['published', 'aborted', 'swept', 'fresh start', 'script done', 'outage', 're-attached'],
    ...['restored the newest', 'restored an older one', 'damage-manifest', 'damage-object'],
    ...['log unavailable, then settled', 'a stale leader triggers', 'ended by LEADERSHIP_LOST'],
    ...['aborted after a failed call', 'published as another took over'],
    ...['ended by store', 'ended by RESTORE_IMPOSSIBLE'],
    ...['sweep refused: a task has not named its objects'],
    ...['sweep refused: a retained manifest is unreadable'],
    ...['put', 'create', 'get', 'list', 'delete'].flatMap((operation) => [
      `lost reply ${operation}`,
      `failed call ${operation}`,
    ]),
    ...['before create log', 'after create log', 'after create manifests'].map((w) => `crash ${w}`),
    ...['before delete segments', 'after delete manifests'].map((w) => `crash ${w}`),
  ];
  const counts = [...hits].sort(([a], [b]) => (a < b ? -1 : 1));
  console.log(counts.map(([what, count]) => `${String(count).padStart(7)} ${what}`).join('\n'));
  for (const what of wanted) assert.ok((hits.get(what) ?? 0) > 0, `never: ${what}`);
});

const MUTANTS: [Mutant, RegExp][] = [
  ['create is put', /S1/],
  ['takeovers are not seen', /S2/],
  ['sweep without end check', /S5/],
  ['sweep with old roots', /S5/],
];
for (const [mutant, rule] of MUTANTS) {
  test(`the checker goes red: ${mutant}`, async () => {
    const runs = Array.from({ length: 500 }, (_, seed) => seeded(seed, mutant, 0.5));
    await assert.rejects(runAll(runs), rule);
  });
}
