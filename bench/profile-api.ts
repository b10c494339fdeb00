/**
 * The Profile API client alone: `npx node bench/profile-api.ts [users] [at once]`. Fills unknown
 * users from profile-server.ts and prints what one of them costs. The figure to judge by is the CPU
 * time: users per second falls with whatever else runs on the machine, the server for one.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import type { ProfileApiPlan } from '../worker/src/plan/job-plan.ts';
import { realEnv } from '../worker/src/runtime/env.ts';
import { openHttpProfileApi } from '../worker/src/state/http-profile-api.ts';
import type { ProfileApi } from '../worker/src/state/profile-api.ts';
import { userId } from './dataset.ts';
import { printFigures } from './report.ts';

const SERVER = fileURLToPath(new URL('./profile-server.ts', import.meta.url));
const USERS = Number(process.argv[2] ?? 10_000);
const AT_ONCE = Number(process.argv[3] ?? 64);
/** Asked for again and again: the server, which remembers them, is then not the bottleneck. */
const DISTINCT_USERS = 1_000;
const WARM_UP_USERS = 2_000;

const PLAN: Omit<ProfileApiPlan, 'url'> = {
  timeoutMs: 30_000,
  maxConcurrent: AT_ONCE,
  maxResponseBytes: 16 * 1024 ** 2,
  onError: 'retry',
  maxAttempts: 5,
  initialBackoffMs: 200,
  maxBackoffMs: 30_000,
};

/** Resolves to the characters of history that came. */
async function fill(api: ProfileApi, users: number): Promise<number> {
  let next = 0;
  let chars = 0;
  const one = async () => {
    while (next < users) {
      const answer = await api.fetch(userId(next++ % DISTINCT_USERS));
      if (answer.kind !== 'found') throw new Error(answer.error);
      for (const event of answer.history) chars += event.length;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return chars;
}

const server = fork(SERVER);
const [{ port }] = (await once(server, 'message')) as [{ port: number }];
const url = `http://127.0.0.1:${port}`;
const api = openHttpProfileApi({ ...PLAN, url }, realEnv, pino({ level: 'warn' }));
await fill(api, WARM_UP_USERS);
const threadBefore = process.threadCpuUsage();
const before = process.cpuUsage();
const startedAt = performance.now();
const chars = await fill(api, USERS);
const seconds = (performance.now() - startedAt) / 1_000;
const cpu = process.cpuUsage(before);
const thread = process.threadCpuUsage(threadBefore);
const { errors } = api.stats();
await api.close();
server.disconnect();
printFigures([
  { name: 'users filled', value: USERS, unit: `users, ${AT_ONCE} at once` },
  { name: 'history', value: chars / USERS, unit: 'characters/user' },
  { name: 'rate', value: USERS / seconds, unit: 'users/s' },
  { name: 'CPU of the thread', value: (thread.user + thread.system) / USERS, unit: 'us/user' },
  { name: 'of it in the kernel', value: thread.system / USERS, unit: 'us/user' },
  { name: 'CPU of the process', value: (cpu.user + cpu.system) / USERS, unit: 'us/user' },
  { name: 'errors', value: errors ?? 0, unit: 'answers' },
]);
