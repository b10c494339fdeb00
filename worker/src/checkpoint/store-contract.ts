/**
 * For tests only: what every ObjectStore promises, as one suite that each of them runs. A store's
 * own test holds what is its own: its files, its requests, its faults.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { realEnv } from '../runtime/env.ts';
import type { ObjectStore } from './object-store.ts';

export interface ContractSubject {
  /** A store on `place`; the same place holds the same objects. A place never seen is empty. */
  open(place: string): Promise<ObjectStore>;
  racers: number;
  rounds: number;
}

/** The store's clock and ours. */
const CLOCK_DIFFERENCE_MS = 600_000;

const bytes = (text: string) => Buffer.from(text);

export function describeStoreContract(kind: string, subject: ContractSubject): void {
  let places = 0;
  const fresh = () => subject.open(`place-${places++}`);
  describe(`${kind} keeps the contract of a store`, () => {
    writesAndReads(subject, fresh);
    listsAndDeletes(fresh);
    refusesNames(fresh);
    letsOneWin(subject);
  });
}

type Fresh = () => Promise<ObjectStore>;

function writesAndReads(subject: ContractSubject, fresh: Fresh): void {
  it('creates an object once', async () => {
    const store = await fresh();
    assert.equal(await store.create('log/00000000', bytes('a')), 'created');
    assert.equal(await store.create('log/00000000', bytes('b')), 'exists');
    assert.equal(await store.create('log/00000000', bytes('a')), 'exists');
    assert.equal(String(await store.get('log/00000000')), 'a');
    await store.put('log/00000001', bytes('p'));
    assert.equal(await store.create('log/00000001', bytes('b')), 'exists');
    await store.delete(['log/00000000']);
    assert.equal(await store.create('log/00000000', bytes('c')), 'created');
  });

  it('gives back what was put, to any opener; null only for what is absent', async () => {
    const store = await subject.open('shared');
    const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    await store.put('segments/1/bytes', every);
    await store.put('segments/1/bytes', every);
    await store.put('segments/1/empty', Buffer.alloc(0));
    const large = Buffer.alloc(3 * 1024 * 1024 + 7, 'large');
    await store.put('segments/1/large', large);
    const other = await subject.open('shared');
    assert.deepEqual(await other.get('segments/1/bytes'), every);
    assert.deepEqual(await other.get('segments/1/empty'), Buffer.alloc(0));
    assert.ok((await other.get('segments/1/large'))?.equals(large));
    assert.equal(await other.get('segments/1/none'), null);
    assert.equal(await other.get('none/deeper/one'), null);
  });

  it('takes an object in pieces, and none of it if a piece fails', async () => {
    const store = await fresh();
    const whole = Buffer.from(Array.from({ length: 2_500_000 }, (_, at) => at % 251));
    const read = async (offset: number, length: number) => whole.subarray(offset, offset + length);
    await store.putPieces('segments/1/pieces', whole.length, read);
    assert.ok((await store.get('segments/1/pieces'))?.equals(whole));
    await store.putPieces('segments/1/nothing', 0, read);
    assert.deepEqual(await store.get('segments/1/nothing'), Buffer.alloc(0));
    const failing = async (offset: number, length: number) => {
      if (offset + length === whole.length) throw new Error('the source is gone');
      return read(offset, length);
    };
    await assert.rejects(store.putPieces('segments/1/half', whole.length, failing), /gone/);
    assert.equal(await store.get('segments/1/half'), null);
  });

  it('reads ranges, cut at the end of the object', async () => {
    const store = await fresh();
    await store.put('a', bytes('0123456789'));
    assert.equal(String(await store.getRange('a', 0, 10)), '0123456789');
    assert.equal(String(await store.getRange('a', 3, 4)), '3456');
    assert.equal(String(await store.getRange('a', 8, 4)), '89');
    assert.equal(String(await store.getRange('a', 10, 4)), '');
    await assert.rejects(store.getRange('absent', 0, 1));
  });
}

function listsAndDeletes(fresh: Fresh): void {
  it('lists by prefix, with sizes and times', async () => {
    const store = await fresh();
    assert.deepEqual(await store.list(''), []);
    for (const name of ['log/0', 'segments/1/x', 'segments/10/y']) {
      await store.put(name, bytes(name));
    }
    const names = async (prefix: string) =>
      (await store.list(prefix)).map((one) => one.name).toSorted();
    assert.deepEqual(await names(''), ['log/0', 'segments/1/x', 'segments/10/y']);
    assert.deepEqual(await names('segments/1'), ['segments/1/x', 'segments/10/y']);
    assert.deepEqual(await names('segments/1/'), ['segments/1/x']);
    assert.deepEqual(await names('seg'), ['segments/1/x', 'segments/10/y']);
    assert.deepEqual(await names('nothing/'), []);
    const [found] = await store.list('segments/10/');
    assert.equal(found?.bytes, 'segments/10/y'.length);
    const age = Math.abs((found?.modifiedAt ?? 0) - realEnv.now());
    assert.ok(age < CLOCK_DIFFERENCE_MS, `${age} ms`);
  });

  it('deletes what is there; what is not is no error', async () => {
    const store = await fresh();
    await store.put('log/0', bytes('0'));
    await store.put('log/1', bytes('1'));
    await store.delete(['log/0', 'log/0', 'never/was']);
    assert.deepEqual(
      (await store.list('')).map((one) => one.name),
      ['log/1'],
    );
    assert.equal(await store.get('log/0'), null);
    await store.delete([]);
  });
}

function refusesNames(fresh: Fresh): void {
  it('refuses names that leave its folder, or that another store could not hold', async () => {
    const store = await fresh();
    const names = ['', '..', '../x', 'a/../../x', '/etc/x', 'a//b', './a', 'a/', '.tmp/x'];
    for (const name of [...names, 'a\0b', 'a\\b']) {
      await assert.rejects(store.put(name, bytes('x')), { code: 'STORE_NAME' }, name);
      await assert.rejects(store.create(name, bytes('x')), { code: 'STORE_NAME' }, name);
      await assert.rejects(store.get(name), { code: 'STORE_NAME' }, name);
      await assert.rejects(store.getRange(name, 0, 1), { code: 'STORE_NAME' }, name);
      await assert.rejects(store.delete([name]), { code: 'STORE_NAME' }, name);
    }
    await assert.rejects(store.list('../'), { code: 'STORE_NAME' });
  });
}

function letsOneWin(subject: ContractSubject): void {
  it('lets exactly one of many racers win, and shows nobody half an object', async () => {
    const { racers, rounds } = subject;
    const stores = await Promise.all(Array.from({ length: racers }, () => subject.open('race')));
    for (let round = 0; round < rounds; round++) {
      const name = `log/${round}`;
      const seen: (Buffer | null)[] = [];
      const answers = await Promise.all(
        stores.map(async (store, index) => {
          const answer = await store.create(name, Buffer.alloc(70_000, index));
          seen.push(await store.get(name));
          return answer;
        }),
      );
      const winners = answers.filter((answer) => answer === 'created');
      assert.equal(winners.length, 1, `round ${round}: ${answers.join()}`);
      const winner = Buffer.alloc(70_000, answers.indexOf('created'));
      assert.ok(seen.every((content) => content?.equals(winner)));
    }
  });
}
