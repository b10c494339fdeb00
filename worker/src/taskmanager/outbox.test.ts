import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import type { DeadLetter, Delivery, DeliveryOutcome } from '../action/action.ts';
import { Outbox, type OutboxEntry, type OutboxResult } from './outbox.ts';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const DELIVERED: DeliveryOutcome = { kind: 'delivered', attempts: 1 };
const FAILED: DeliveryOutcome = { kind: 'failed', attempts: 3, error: 'HTTP 500' };
const POISON = { stage: 'state', error: 'not JSON', attempts: 0 } as const;

interface Call {
  delivery: Delivery;
  answer(outcome: DeliveryOutcome): void;
  reject(fault: unknown): void;
}

/** Answers nothing by itself. */
class Rig {
  calls: Call[] = [];
  readonly started: string[] = [];
  readonly done: string[] = [];
  readonly faults: unknown[] = [];
  readonly deadLetters: DeadLetter[] = [];
  acknowledge: (() => void)[] | null = null;
  sizeAtDone: number[] = [];
  readonly outbox: Outbox = new Outbox({
    action: {
      maxInFlight: 4,
      deliver: (delivery) =>
        new Promise((answer, reject) => {
          this.started.push(delivery.id);
          this.calls.push({ delivery, answer, reject });
        }),
      stats: () => ({}),
      close: async () => {},
    },
    deadLetter: {
      write: async (entry) => {
        this.deadLetters.push(entry);
        const { acknowledge } = this;
        if (acknowledge !== null) await new Promise<void>((done) => acknowledge.push(done));
      },
      close: async () => {},
    },
    onDone: (entry: OutboxEntry, result: OutboxResult) => {
      this.done.push(`${entry.delivery.id} ${result}`);
      this.sizeAtDone.push(this.outbox.size);
    },
    onFault: (fault) => this.faults.push(fault),
  });
  #n = 0;

  add(userId: string, failure: OutboxEntry['failure'] = null, bytes = 10): string {
    const id = `${userId}#${this.#n++}`;
    this.outbox.add(1, delivery(id, userId, bytes), failure);
    return id;
  }

  async answer(index: number, outcome = DELIVERED): Promise<void> {
    const [call] = this.calls.splice(index, 1);
    call!.answer(outcome);
    await turn();
  }
}

function delivery(id: string, userId: string, bytes = 10): Delivery {
  const place = { topic: 't', partition: 2, offset: 7, timestamp: -1 };
  return { id, userId, ...place, body: Buffer.alloc(bytes, id) };
}

test('one delivery at a time per user, in order; users run beside each other', async () => {
  const rig = new Rig();
  const ids = ['a', 'b', 'a', 'a', 'b'].map((user) => rig.add(user));
  assert.deepEqual(rig.started, [ids[0], ids[1]]);
  await rig.answer(1);
  assert.deepEqual(rig.started, [ids[0], ids[1], ids[4]], 'b goes on while a is under way');
  await rig.answer(0);
  await rig.answer(1);
  assert.deepEqual(rig.started.slice(3), [ids[2], ids[3]]);
  assert.equal(rig.outbox.holds('a'), true);
  await rig.answer(1);
  assert.equal(rig.outbox.holds('a'), false);
  assert.equal(rig.outbox.holds('b'), true);
  await rig.answer(0);
  assert.equal(rig.outbox.size, 0);
  assert.equal(rig.outbox.bytes, 0);
  assert.deepEqual(rig.sizeAtDone, [4, 3, 2, 1, 0], 'an entry has left when it is reported');
});

test('a final failure goes to the dead letter with its body; its receipt ends it', async () => {
  const rig = new Rig();
  rig.acknowledge = [];
  const id = rig.add('a');
  const next = rig.add('a');
  await rig.answer(0, FAILED);
  assert.deepEqual(rig.done, []);
  assert.equal(rig.outbox.size, 2, 'not acknowledged: it stays in every checkpoint (P29)');
  assert.deepEqual(rig.deadLetters, [
    {
      id,
      topic: 't',
      partition: 2,
      offset: 7,
      userId: 'a',
      stage: 'action',
      error: 'HTTP 500',
      attempts: 3,
      raw: Buffer.alloc(10, id),
    },
  ]);
  assert.deepEqual(rig.started, [id], 'the user waits for it');
  rig.acknowledge[0]!();
  await turn();
  assert.deepEqual(rig.done, [`${id} deadLettered`]);
  assert.deepEqual(rig.started, [id, next]);
});

test('poison never sees the action and waits for no one', async () => {
  const rig = new Rig();
  rig.acknowledge = [];
  for (let n = 0; n < 3; n++) rig.add('', POISON);
  await turn();
  assert.deepEqual(rig.started, []);
  assert.equal(rig.deadLetters.length, 3, 'all at once');
  assert.deepEqual(
    rig.deadLetters.map(({ userId, stage, attempts }) => [userId, stage, attempts]),
    [1, 2, 3].map(() => [null, 'state', 0]),
  );
  assert.equal(rig.outbox.holds(''), false);
});

test('a failure of a known user keeps its place in the order', async () => {
  const rig = new Rig();
  const first = rig.add('a');
  const second = rig.add('a', { stage: 'state', error: 'profile', attempts: 1 });
  await turn();
  assert.equal(rig.deadLetters.length, 0);
  await rig.answer(0);
  assert.deepEqual(rig.done, [`${first} delivered`, `${second} deadLettered`]);
});

test('a snapshot holds all that has not left, in order; a restore delivers it so', async () => {
  const rig = new Rig();
  const ids = ['a', 'b', 'a', 'c'].map((user) => rig.add(user));
  rig.add('', POISON);
  await turn();
  await rig.answer(1);
  const snapshot = rig.outbox.snapshot();
  assert.deepEqual(
    snapshot.map(({ delivery: { id } }) => id),
    [ids[0], ids[2], ids[3]],
  );
  await rig.answer(0);
  assert.equal(snapshot.length, 3, 'a snapshot does not change');
  const next = new Rig();
  next.outbox.restore(snapshot.map(({ seq: _, ...entry }) => entry));
  const late = next.add('a');
  assert.deepEqual(next.started, [ids[0], ids[3]]);
  await next.answer(0);
  await next.answer(1);
  await next.answer(1);
  assert.deepEqual(next.started, [ids[0], ids[3], ids[2], late]);
  const again = next.outbox.snapshot().map(({ delivery: { id } }) => id);
  assert.deepEqual(again, [ids[3]], 'what is under way is part of it too');
});

test("a delivered event's body is used again, unless a snapshot refers to it (P18)", async () => {
  const rig = new Rig();
  const lend = (id: string) => {
    const body = rig.outbox.bodies.take(10);
    rig.outbox.add(1, { ...delivery(id, id), body }, null);
    return body.buffer;
  };
  const captured = lend('a');
  rig.outbox.snapshot();
  const later = lend('b');
  await rig.answer(0);
  await rig.answer(0);
  assert.equal(lend('c'), later);
  assert.notEqual(lend('d'), captured);
});

test('after close nothing starts, nothing leaves, and no rejection is a fault', async () => {
  const rig = new Rig();
  rig.add('a');
  rig.add('b');
  rig.outbox.close();
  rig.add('c');
  rig.calls[1]!.reject(new Error('closed'));
  await rig.answer(0);
  assert.deepEqual([rig.done, rig.faults, rig.started.length], [[], [], 2]);
  assert.equal(rig.outbox.size, 3);
});

test('a delivery that rejects without a close is a fault of the task', async () => {
  const rig = new Rig();
  rig.add('a');
  const fault = new Error('broken port');
  rig.calls[0]!.reject(fault);
  await turn();
  assert.deepEqual(rig.faults, [fault]);
  assert.equal(rig.outbox.size, 1, 'and the entry is not lost');
});

test('deliveries under way are bounded, those of one slow user never block others', async () => {
  const rig = new Rig();
  for (let n = 0; n < 5000; n++) rig.add('slow');
  for (let n = 0; n < 5000; n++) rig.add(`u${n}`);
  assert.equal(rig.started.length, 4096);
  for (let n = 0; n < 100; n++) await rig.answer(1);
  assert.equal(rig.started.length, 4196);
});

test('every user in order and everything once, for any answers in any order', async () => {
  const entry = fc.record({ user: fc.nat(4), poison: fc.nat(9) });
  const answers = fc.array(fc.record({ index: fc.nat(), ok: fc.boolean() }), { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 40 }), answers, async (entries, order) => {
      const rig = new Rig();
      const ids = entries.map(({ user, poison }) =>
        poison === 0 ? rig.add('', POISON) : rig.add(`u${user}`),
      );
      await turn();
      for (let n = 0; rig.calls.length > 0; n++) {
        const { index, ok } = order[n % order.length]!;
        await rig.answer(index % rig.calls.length, ok ? DELIVERED : FAILED);
      }
      assert.deepEqual(rig.done.map((one) => one.split(' ')[0]).sort(), [...ids].sort());
      for (let user = 0; user < 5; user++) {
        const own = (one: string) => one.startsWith(`u${user}#`);
        assert.deepEqual(rig.started.filter(own), ids.filter(own));
      }
      assert.deepEqual([rig.outbox.size, rig.outbox.bytes], [0, 0]);
    }),
    { seed: 13, numRuns: 60 },
  );
});

/** I7: the list of those that are ready never runs empty while a webhook is at its limit. */
test('a delivered entry is garbage, also while others wait for their turn', async () => {
  const rig = new Rig();
  for (let n = 0; n < 4200; n++) rig.add(`u${n}`);
  await rig.answer(0);
  // The first that had to wait for its turn.
  const first = new WeakRef(rig.calls.at(-1)!.delivery);
  await rig.answer(rig.calls.length - 1);
  for (let n = 0; n < 2500; n++) {
    rig.add(`later${n}`);
    await rig.answer(0);
  }
  assert.equal(rig.done.length, 2502);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  await turn();
  collect();
  assert.equal(first.deref(), undefined);
});
