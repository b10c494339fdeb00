/**
 * The promise: a record that can't be handled costs itself. It is in the dead letter with where it
 * came from, why, and its exact bytes, once per id; so is a delivery that the receiver refuses for
 * good. All other records are handled as if it were not there (I2, I8).
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { Acked } from '../exactly-once/history.ts';
import type { Outgoing } from '../exactly-once/producer.ts';
import { violationLines } from '../exactly-once/report.ts';
import { runChecked } from '../exactly-once/run.ts';
import { judge } from '../exactly-once/verdict.ts';
import { type KafkaBroker, startKafka } from '../testbed/kafka.ts';
import { printRun, untilSeen } from './fault-windows.ts';

const MAX_RECORD_BYTES = 64 * 1024;

/** Every way in which a record can be no UserEvent. */
const POISON: readonly (Buffer | null)[] = [
  null,
  ...[
    '',
    'not json',
    '{"user_id":"user-0001"',
    '[{"user_id":"user-0001"}]',
    '"user-0001"',
    'null',
    '{}',
    '{"user_id":null}',
    '{"user_id":7}',
    '{"user_id":""}',
    '{"user_id":"user-0001"} trailing',
  ].map((text) => Buffer.from(text)),
  Buffer.from([0x7b, 0xff, 0xfe, 0x00, 0x7d]),
  Buffer.from(`{"user_id":"user-0001","pad":"${'x'.repeat(MAX_RECORD_BYTES)}"}`),
];

interface Entry {
  id: string;
  topic: string;
  partition: number;
  offset: number;
  stage: string;
  error: string;
  raw: string;
}

async function readEntries(file: string): Promise<Entry[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Entry);
}

function checkPoison(poison: readonly Acked[], entries: readonly Entry[], topic: string): void {
  const found = Map.groupBy(entries, (one) => `${one.partition}/${one.offset}`);
  for (const record of poison) {
    const place = `${record.partition}/${record.offset}`;
    const own = found.get(place) ?? [];
    assert.equal(new Set(own.map((one) => one.id)).size, 1, `${place}: one entry, one id`);
    const [entry] = own;
    assert.equal(entry?.topic, topic);
    assert.equal(entry?.raw, record.raw, `${place}: the exact bytes`);
    assert.match(entry?.stage ?? '', /^(source|state)$/, place);
    assert.notEqual(entry?.error ?? '', '', place);
  }
}

describe('records that can not be handled', () => {
  let broker: KafkaBroker;
  before(async () => {
    broker = await startKafka();
  });
  after(async () => await broker?.stop());

  it('1 % poison and refused deliveries: all in the dead letter, nothing else lost', async () => {
    const topic = 'poison';
    const deadLetter: { entries: Entry[] } = { entries: [] };
    const result = await runChecked(broker, {
      name: topic,
      seed: 13,
      users: 100,
      eventsPerUser: 100,
      durationMs: 20_000,
      need: null,
      job: (folder) => ({
        source: { maxRecordBytes: MAX_RECORD_BYTES },
        deadLetter: { file: { path: join(folder, 'dead-letter.ndjson') } },
      }),
      nemesis: async ({ producer, receiver }) => {
        // 100 of 10,000: each kind about seven times, on all partitions.
        for (let sent = 0; sent < 100; sent++) {
          const raw = POISON[sent % POISON.length]!;
          const record: Outgoing = { user: '', seq: -1, partition: sent % 4, raw };
          await producer.send([record]);
          await wait(150);
          if (sent === 60) receiver.fault = '400';
          if (sent === 70) {
            const seen = () => receiver.receipts.some((one) => one.status === 400);
            await untilSeen('refusals', [{ what: 'a delivery that was answered 400', seen }]);
            receiver.fault = 'none';
          }
        }
      },
      deadLettered: async ({ folder }) => {
        deadLetter.entries = await readEntries(join(folder, 'dead-letter.ndjson'));
        return deadLetter.entries.filter((one) => one.stage === 'action').map(eventOf);
      },
    });
    const verdict = judge(result.history);
    printRun(result, verdict, []);
    const { entries } = deadLetter;
    const poison = result.history.acked.filter((one) => one.seq < 0);
    const refused = new Map(
      result.history.receipts.filter((one) => one.status === 400).map((one) => [one.id, one]),
    );
    console.log(
      `poison records ${poison.length}, refused deliveries ${refused.size}, ` +
        `dead letters ${entries.length}`,
    );
    assert.deepEqual(result.trouble, []);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.equal(poison.length, 100);
    checkPoison(poison, entries, topic);
    assert.ok(refused.size > 0, 'no delivery was refused');
    const actions = entries.filter((one) => one.stage === 'action');
    assert.deepEqual(
      actions.map((one) => one.id).toSorted(),
      [...refused.keys()].toSorted(),
      'each refused delivery is in the dead letter under its webhook-id',
    );
    const ids = new Set(entries.map((one) => one.id));
    assert.equal(ids.size, poison.length + refused.size, 'no other dead letters');
  });
});

/** `user/seq` of a refused delivery: its raw bytes are the enriched event. */
function eventOf(entry: Entry): string {
  const { event } = JSON.parse(Buffer.from(entry.raw, 'base64').toString('utf8')) as {
    event: { user_id: string; seq: number };
  };
  return `${event.user_id}/${event.seq}`;
}
