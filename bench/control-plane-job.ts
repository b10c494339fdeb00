/**
 * The JobManager process of `control-plane.ts`: the real JobManager on a real directory store; only
 * the source's partitions are made up. Tells its parent over IPC where it listens, then the moments
 * of each checkpoint, and at the end what its event loop went through.
 */
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { pino } from 'pino';
import { openDirectoryStore } from '../worker/src/checkpoint/directory-store.ts';
import { MemoryStore } from '../worker/src/checkpoint/memory-store.ts';
import type { ObjectStore } from '../worker/src/checkpoint/object-store.ts';
import { startJobManager } from '../worker/src/jobmanager/jobmanager.ts';
import { SCRIPT, testPlan } from '../worker/src/jobmanager/test-cluster.ts';
import { startRest } from '../worker/src/rest/rest-server.ts';
import { type Env, realEnv } from '../worker/src/runtime/env.ts';
import type { Split, SplitEnumerator } from '../worker/src/source/source.ts';
import {
  type CheckpointMoments,
  type JobMessage,
  type JobSettings,
  wallClock,
} from './control-plane-messages.ts';

const SETTLE_MS = 100;

const env: Env = { ...realEnv, now: wallClock };

/** Sees the manifest and the log record on their way. */
class Stopwatch {
  #open: CheckpointMoments = blank(0, 0);

  begin(checkpointId: number): void {
    this.#open = blank(checkpointId, wallClock());
  }

  acked(): void {
    this.#open.acked = wallClock();
  }

  around(store: ObjectStore): ObjectStore {
    return {
      url: store.url,
      put: (name, content) => store.put(name, content),
      putPieces: (name, bytes, read) => store.putPieces(name, bytes, read),
      get: (name) => store.get(name),
      getRange: (name, offset, length) => store.getRange(name, offset, length),
      list: (prefix) => store.list(prefix),
      delete: (names) => store.delete(names),
      create: async (name, content) => {
        if (name.startsWith('manifests/')) {
          this.#open.encoded = wallClock();
          this.#open.manifestBytes = content.length;
        }
        const answer = await store.create(name, content);
        if (name.startsWith('manifests/')) this.#open.stored = wallClock();
        else this.#open.logged = wallClock();
        return answer;
      },
    };
  }

  published(triggeredAt: number): void {
    tell({ type: 'checkpoint', moments: { ...this.#open, triggered: triggeredAt } });
  }
}

function blank(checkpointId: number, now: number): CheckpointMoments {
  const rest = { acked: 0, encoded: 0, stored: 0, logged: 0, manifestBytes: 0 };
  return { checkpointId, triggered: 0, sent: now, ...rest };
}

function partitions(count: number): SplitEnumerator {
  const offsets = (splits: readonly Split[], offset: number) =>
    Promise.resolve(new Map(splits.map((split) => [split.index, offset])));
  return {
    discover: () =>
      Promise.resolve(
        Array.from({ length: count }, (_, partition) => ({
          id: `user-tracking-events-${partition}`,
          sourceId: 'Zm9yIGEgdG9waWMgaWQgMjI',
          partition,
        })),
      ),
    startingOffsets: (splits) => offsets(splits, 0),
    earliestOffsets: (splits) => offsets(splits, 0),
    endOffsets: (splits) => offsets(splits, 1_000_000),
    commit: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

function tell(message: JobMessage): void {
  process.send?.(message);
}

async function main(settings: JobSettings): Promise<void> {
  const { folder, parallelism, maxParallelism, slots, splits, intervalMs, profile } = settings;
  const watch = new Stopwatch();
  const plan = {
    ...testPlan({ intervalMs, retained: 3 }),
    parallelism,
    maxParallelism,
    slotsPerTaskManager: slots,
    taskManagers: parallelism / slots,
  };
  const store = watch.around(await openDirectoryStore(folder, env));
  const manager = await startJobManager({
    plan,
    watchFiles: [],
    loadScript: () => Promise.resolve(null),
    script: { ...SCRIPT, text: "event.triggerable && user.country == 'US'" },
    env,
    log: pino({ level: 'error' }),
    store,
    openStore: () => Promise.resolve(new MemoryStore(env)),
    openEnumerator: () => partitions(splits),
    writer: 'bench',
    hooks: {
      phase(name, checkpointId) {
        if (name === 'barrier') watch.begin(checkpointId);
        if (name === 'manifest') watch.acked();
        if (name === 'before-notify') {
          watch.published(manager.view().checkpoints.find(checkpointId)?.triggeredAt ?? 0);
        }
        return Promise.resolve();
      },
    },
  });
  const rest = await startRest({
    plan,
    jobManager: manager,
    port: 0,
    bindAddress: '127.0.0.1',
    env,
  });
  const session = profile === null ? null : await startProfile();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  tell({ type: 'listens', rpcPort: manager.rpcPort, restPort: rest.port });
  process.on('message', (message) => {
    if (message === 'measure') {
      delay.reset();
      delay.enable();
      return;
    }
    delay.disable();
    const ms = (nanoseconds: number) => nanoseconds / 1e6;
    tell({
      type: 'end',
      loopDelayP99Ms: ms(delay.percentile(99)),
      loopDelayMaxMs: ms(delay.max),
    });
    void writeProfile(session, profile).then(() => setTimeout(() => process.exit(0), SETTLE_MS));
  });
}

async function startProfile(): Promise<Session> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  return session;
}

async function writeProfile(session: Session | null, file: string | null): Promise<void> {
  if (session === null || file === null) return;
  const { profile } = await session.post('Profiler.stop');
  writeFileSync(file, JSON.stringify(profile));
}

process.on('disconnect', () => process.exit(1));
await main(JSON.parse(process.argv[2] ?? '') as JobSettings);
