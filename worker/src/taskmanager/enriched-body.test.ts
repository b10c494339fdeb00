import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { viewOf } from '../runtime/copy-words.ts';
import type { JsonObject } from '../runtime/json.ts';
import { PROFILE, parseKey, type UserRow } from '../state/rows.ts';
import { SlabArena } from '../state/slab-arena.ts';
import { type RowReader, UserState } from '../state/user-state.ts';
import { enrichedBody } from './enriched-body.ts';

const LIMITS = { historyMaxEvents: 100, maxBytesPerUser: 1 << 24 };
const json = fc.string({ unit: 'grapheme', maxLength: 40 }).map((pad) => JSON.stringify({ pad }));

test('the body is the JSON of the four texts, byte for byte', () => {
  fc.assert(
    fc.property(
      json,
      json,
      fc.array(json, { maxLength: 30 }),
      json,
      (profile, visit, past, now) => {
        const out: UserRow[] = [];
        const newcomer = { id: 'u', keyGroup: 1, lastAccess: 0, fetchedBy: 0 };
        const answer = { profile, visit, history: past };
        const user = UserState.fromAnswer(new SlabArena(), newcomer, answer, LIMITS, out);
        const source = Buffer.from(`..${now}..`);
        const event = { source, start: 2, end: source.length - 2 };
        const fail = () => assert.fail('nothing is to be read');
        const read = { profile: fail, chunks: fail };
        const body = enrichedBody(user, event, read, Buffer.allocUnsafeSlow);
        const wanted = `{"event":${now},"user":${profile},"visit":${visit},"history":[${past}]}`;
        assert.equal(body.toString(), wanted);
      },
    ),
    { seed: 5, numRuns: 200 },
  );
});

test('texts and chunks that were let go are read again, and the counters stand in visit', () => {
  const out: UserRow[] = [];
  const past = Array.from({ length: 40 }, (_, n) => `{"n":${n}}`);
  const newcomer = { id: 'u', keyGroup: 1, lastAccess: 0, fetchedBy: 0 };
  const answer = { profile: '{"p":1}', visit: '{"v":1}', history: past };
  const user = UserState.fromAnswer(new SlabArena(), newcomer, answer, LIMITS, out);
  const source = Buffer.from('{"event_name":"buy","timestamp":7}');
  const parsed = JSON.parse(source.toString()) as JsonObject;
  const text = { source, view: viewOf(source), start: 0, end: source.length };
  user.append({ ...text, parsed, timestamp: 5, time: 5 }, LIMITS, out);
  const written = user.takeRows();
  const asked: number[] = [];
  const profile = written.find(({ key }) => parseKey(key).row === PROFILE)!.value!;
  let profiles = 0;
  const read: RowReader = {
    profile: () => {
      profiles++;
      return profile;
    },
    chunks: (_, seqs) => {
      asked.push(...seqs);
      return out.map(({ value }) => value!).slice(0, seqs.length);
    },
  };
  const body = enrichedBody(user, text, read, Buffer.allocUnsafeSlow);
  assert.deepEqual([asked, profiles], [[0, 16], 1]);
  user.takeRows();
  assert.ok(user.hasTexts, 'texts that were used stay for another interval');
  user.takeRows();
  assert.ok(!user.hasTexts);
  const { visit, history } = JSON.parse(body.toString()) as Record<string, unknown>;
  const moved = { event_count: 1, last_event_name: 'buy', last_event_at: 7 };
  assert.deepEqual(visit, { v: 1, ...moved });
  assert.deepEqual(history, [...past.map((one) => JSON.parse(one)), parsed]);
});
