/** A JobManager on a memory store and an in-memory source, for tests. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { decodeRecord } from '../checkpoint/log-record.ts';
import { MemoryStore, type StoredObjects } from '../checkpoint/memory-store.ts';
import type { LogRecord } from '../checkpoint/snapshot.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import type { ScriptVersion } from '../rpc/messages.ts';
import { realEnv, sleep } from '../runtime/env.ts';
import type { Split, SplitEnumerator, SplitPosition } from '../source/source.ts';
import type { JobManager } from './job-view.ts';
import { startJobManager } from './jobmanager.ts';
import type { JobManagerOptions } from './jobmanager-options.ts';

export const SCRIPT: ScriptVersion = { version: 'v1', text: 'true', language: 'aviator' };

class MemoryEnumerator implements SplitEnumerator {
  partitions = 3;
  readonly commits: SplitPosition[][] = [];
  startingCalls = 0;

  discover() {
    return Promise.resolve(
      Array.from({ length: this.partitions }, (_, partition) => ({
        id: `events-${partition}`,
        sourceId: 'topic-id',
        partition,
      })),
    );
  }

  startingOffsets(splits: readonly Split[]) {
    this.startingCalls += 1;
    return this.#offsets(splits, 100);
  }

  earliestOffsets(splits: readonly Split[]) {
    return this.#offsets(splits, 4);
  }

  endOffsets(splits: readonly Split[]) {
    return this.#offsets(splits, 110);
  }

  commit(positions: readonly SplitPosition[]) {
    this.commits.push([...positions]);
    return Promise.resolve();
  }

  close() {
    return Promise.resolve();
  }

  #offsets(splits: readonly Split[], offset: number) {
    return Promise.resolve(new Map(splits.map((split) => [split.index, offset])));
  }
}

export function testPlan(change: Partial<JobPlan['checkpointing']> = {}): JobPlan {
  return {
    name: 'job',
    namespace: 'default',
    parallelism: 2,
    maxParallelism: 8,
    slotsPerTaskManager: 2,
    taskManagers: 1,
    source: {
      kind: 'kafka',
      connection: { bootstrapServers: ['none:1'] },
      topic: 'events',
      groupId: 'g',
      startingOffsets: { kind: 'earliest' },
      discoveryIntervalMs: 20,
      discoveryHoldMs: 600_000,
      maxRecordBytes: 1_000_000,
    },
    keyBy: 'user_id',
    state: {
      ttlMs: 600_000,
      ttlGraceMs: 0,
      allowedSkewMs: 0,
      historyMaxEvents: 100,
      maxBytesPerUser: 1 << 24,
      profileApi: null,
    },
    filter: { language: 'aviator', script: 'true', origin: 'spec.filter.script', stepBudget: 1000 },
    action: { kind: 'debug' },
    deadLetter: { kind: 'store' },
    checkpointing: {
      intervalMs: 600_000,
      timeoutMs: 60_000,
      minPauseMs: 0,
      tolerableFailures: 100,
      retained: 2,
      directory: 'memory://',
      s3: { endpoint: null, region: null, pathStyle: null, credentials: null },
      ...change,
    },
    savepointDirectory: 'memory://savepoints',
    periodicSavepoints: { everyMs: null, maxCount: 10 },
    restoreSavepoint: null,
    restartStrategy: { type: 'fixed-delay', attempts: 100, delayMs: 1 },
    selectiveReplay: false,
    scaling: { resourceWaitMs: 10_000, stabilizationMs: 20, minIntervalMs: 0 },
    memory: {
      processBytes: 1 << 30,
      managedBytes: 1 << 28,
      networkBytes: 1 << 24,
      heapBytes: 1 << 28,
      slotCacheBytes: 1 << 20,
      slotBlockCacheBytes: 1 << 20,
      slotMemtableBytes: 1 << 20,
      slotOutboxBytes: 1 << 20,
      slotDeltaBytes: 1 << 20,
    },
    heartbeatIntervalMs: 1_000,
    heartbeatTimeoutMs: 60_000,
    jobManagers: 1,
    leaderElection: { leaseMs: 300, renewDeadlineMs: 200, retryMs: 20, graceMs: 60_000 },
    bufferBytes: 32_768,
    bufferTimeoutMs: 5,
    localStateDir: '/nowhere',
    rest: { port: 0, bindAddress: '127.0.0.1' },
    rpc: { port: 0, bindAddress: '127.0.0.1' },
    internalTls: false,
    dataPort: 0,
  };
}

export class TestCluster {
  readonly store = new MemoryStore(realEnv);
  readonly savepoints = new Map<string, MemoryStore>();
  readonly enumerator = new MemoryEnumerator();
  readonly #running: JobManager[] = [];
  /** Savepoint folders that can't be opened. */
  refuse: RegExp | null = null;
  /** Opening one waits for it. */
  opening: Promise<void> = Promise.resolve();

  readonly openStore: JobManagerOptions['openStore'] = async (url, { readOnly = false } = {}) => {
    await this.opening;
    if (this.refuse?.test(url)) throw new Error(`${url} is refused`);
    return this.#savepointStore(url, readOnly);
  };

  /** Starts a JobManager; a second one takes over the same store. */
  async start(options: Partial<JobManagerOptions> = {}): Promise<JobManager> {
    const manager = await startJobManager({
      plan: testPlan(),
      watchFiles: [],
      loadScript: () => Promise.resolve(null),
      script: SCRIPT,
      env: realEnv,
      log: pino({ level: 'silent' }),
      store: this.store,
      openStore: this.openStore,
      openEnumerator: () => this.enumerator,
      writer: 'test',
      ...options,
    });
    this.#running.push(manager);
    return manager;
  }

  async close(): Promise<void> {
    for (const manager of this.#running) await manager.close();
  }

  /** A parent directory shows the objects of the folders in it. */
  #savepointStore(url: string, readOnly: boolean): MemoryStore {
    const known = this.savepoints.get(url);
    if (known !== undefined) return known;
    const objects: StoredObjects = new Map();
    for (const [folder, store] of this.savepoints) {
      if (!folder.startsWith(`${url}/`)) continue;
      const name = folder.slice(url.length + 1);
      for (const [object, stored] of store.objects) objects.set(`${name}/${object}`, stored);
    }
    const store = new MemoryStore(realEnv, objects, url);
    if (!readOnly) this.savepoints.set(url, store);
    return store;
  }
}

/** Closed when the test ends. */
export function clusterOf(t: TestContext): TestCluster {
  const made = new TestCluster();
  t.after(() => made.close());
  return made;
}

/** Waits for the real processes' real messages; fails by name instead of hanging. */
export async function until(what: string, done: () => boolean, looks = 1_000): Promise<void> {
  for (let i = 0; i < looks; i += 1) {
    if (done()) return;
    await sleep(realEnv, 5);
  }
  assert.fail(`never: ${what}`);
}

/** The job's log, oldest first. */
export function recordsOf({ store }: TestCluster): LogRecord[] {
  return [...store.objects]
    .filter(([name]) => name.startsWith('log/'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { content }], index) => decodeRecord(content, index));
}
