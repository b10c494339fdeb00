import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import type { Command, Report } from '../rpc/messages.ts';
import type { Env } from '../runtime/env.ts';
import {
  type LeaderCommand,
  type LeaderConnection,
  LeaderLink,
  type Register,
} from './leader-link.ts';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

class FakeConnection implements LeaderConnection {
  readonly sent: Report[] = [];
  closed = false;
  #onCommand: (command: Command) => void = () => undefined;
  #onClose: (error: Error | null) => void = () => undefined;

  send(report: Report): boolean {
    this.sent.push(report);
    return true;
  }
  onCommand(listener: (command: Command) => void): void {
    this.#onCommand = listener;
  }
  onClose(listener: (error: Error | null) => void): void {
    this.#onClose = listener;
  }
  close(): void {
    this.closed = true;
  }
  say(command: Command): Promise<void> {
    this.#onCommand(command);
    return turn();
  }
  breaks(): Promise<void> {
    this.#onClose(new Error('reset'));
    return turn();
  }
}

const REGISTER = { type: 'register', taskManagerId: 'tm' } as Register;

/** A link under a clock that the test moves. */
function setUp(addresses = ['a:1', 'b:1']) {
  let now = 0;
  const timers: (() => void)[] = [];
  const env: Env = {
    now: () => 0,
    monotonic: () => now,
    random: () => 0,
    id: () => 'id',
    timer: (_delayMs, fn) => {
      timers.push(fn);
      return { cancel: () => undefined };
    },
  };
  const calls: { address: string; connection: FakeConnection }[] = [];
  const down = new Set<string>();
  const told: LeaderCommand[] = [];
  const searched: number[] = [];
  const ends: unknown[] = [];
  let doing = Promise.resolve();
  let describe: () => Promise<Register> = () => Promise.resolve(REGISTER);
  const link = new LeaderLink({
    env,
    log: pino({ level: 'silent' }),
    addresses,
    connect: async (address) => {
      const connection = new FakeConnection();
      calls.push({ address, connection });
      if (down.has(address)) throw new Error('refused');
      return connection;
    },
    describe: () => describe(),
    onCommand: (command) => {
      told.push(command);
      return doing;
    },
    onRegistered: () => undefined,
    onDiscovered: (at) => void searched.push(at),
    onEnd: (fault) => void ends.push((fault as { code?: string }).code),
  });
  void link.run();
  return {
    link,
    calls,
    down,
    told,
    searched,
    ends,
    /** From the next command on, each takes as long as `work`. */
    does: (work: Promise<void>) => {
      doing = work;
    },
    describedBy: (fn: () => Promise<Register>) => {
      describe = fn;
    },
    /** Time passes, and what waited for it goes on. */
    pass: async (ms: number) => {
      now += ms;
      for (const fn of timers.splice(0)) fn();
      await turn();
    },
    last: () => calls.at(-1)!.connection,
  };
}

const registered = (leaderEpoch: number): Command => ({
  type: 'registered',
  version: 3,
  leaderEpoch,
  taskManagerId: 'tm',
});
const standby = (leader: string | null): Command => ({
  type: 'refused',
  code: 'standby',
  reason: 'standby',
  leader,
});

test('tries every JobManager in turn, and follows a hint', async () => {
  const { calls, down, last, pass } = setUp();
  down.add('b:1');
  await turn();
  await last().say(standby('c:1'));
  await last().say(standby(null));
  await pass(1_000);
  assert.deepEqual(
    calls.map(({ address }) => address),
    ['a:1', 'c:1', 'b:1', 'a:1'],
  );
});

test('a job that has ended: tasks end at once, without any it is waited for the next', async () => {
  const { link, ends, last, pass, calls } = setUp();
  const ended: Command = { type: 'refused', code: 'ended', reason: 'over', leader: null };
  await turn();
  for (let i = 0; i < 50; i++) {
    await last().say(ended);
    await pass(2_100);
    link.check();
  }
  assert.deepEqual(ends, [], 'longer than it would wait without a word');
  assert.ok(calls.length > 50);
  link.limit({ heartbeatTimeoutMs: 1_000, graceMs: 5_000 });
  await last().say(ended);
  assert.deepEqual(ends, ['JOB_ENDED']);
});

test('P38: never goes back to an older leader, and refuses what it says', async () => {
  const { link, calls, told, last, pass } = setUp();
  await turn();
  await last().say(registered(5));
  await last().say({ type: 'cancel', leaderEpoch: 5, attempt: 1 });
  assert.equal(told.length, 1);
  await last().say({ type: 'cancel', leaderEpoch: 4, attempt: 1 });
  assert.equal(told.length, 1);
  await last().breaks();
  await turn();
  const older = last();
  await older.say(registered(4));
  assert.ok(older.closed);
  await pass(1_000);
  assert.ok(calls.length > 2);
  assert.equal(link.leaderEpoch, 5);
});

test('P37: word of a search for splits waits for the commands before it', async () => {
  const { searched, does, last } = setUp();
  await turn();
  await last().say(registered(1));
  const work = Promise.withResolvers<void>();
  does(work.promise);
  await last().say({ type: 'add-splits', leaderEpoch: 1, attempt: 1, subtask: 0, splits: [] });
  await last().say({ type: 'alive', leaderEpoch: 1, discoveredAt: 7 });
  assert.deepEqual(searched, [], 'the splits that it found are on their way');
  work.resolve();
  await turn();
  assert.deepEqual(searched, [7]);
});

test('P38: acts for grace after a leader was last heard, then ends', async () => {
  const { link, ends, last, pass } = setUp();
  await turn();
  link.limit({ heartbeatTimeoutMs: 1_000, graceMs: 5_000 });
  await last().say(registered(1));
  await pass(900);
  await last().say({ type: 'alive', leaderEpoch: 1, discoveredAt: null });
  await pass(900);
  link.check();
  const first = last();
  assert.ok(!first.closed);
  await pass(101);
  link.check();
  assert.ok(first.closed, 'a leader that says nothing is as good as gone');
  await pass(3_900);
  link.check();
  assert.deepEqual(ends, []);
  await pass(200);
  link.check();
  assert.deepEqual(ends, ['LEADER_LOST']);
});

test('what is reported while the registration is made is told behind it, not lost', async () => {
  const { link, last, describedBy } = setUp();
  const described = Promise.withResolvers<Register>();
  describedBy(() => described.promise);
  await turn();
  const drained: Report = {
    type: 'drained',
    taskManagerId: 'tm',
    attempt: 1,
    checkpointId: 2,
    subtask: 0,
  };
  link.send(drained);
  assert.deepEqual(last().sent, []);
  described.resolve(REGISTER);
  await turn();
  assert.deepEqual(last().sent, [REGISTER, drained]);
});
