/** The data is the one that the Flink job was measured with: hashes of the bytes that it reads. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  EventStream,
  historyEvents,
  historyJson,
  mix,
  profileJson,
  userId,
  visitJson,
} from './dataset.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

const USERS = [
  [
    0,
    '5e8c2f6b00de64fd138fa817aeaeb9a47e4a8d024e77abc68c49e643b5eef2df',
    '9dc03b6045ac51dee28c441feea66334b4d33ca98a2bbc12cae1923062cb51a1',
    '8b4af445deddfa3cc973775025b19c2e0f8b2de52f6c37e7b48b5ae27756f875',
  ],
  [
    42,
    'a3b4287cd083008ec6baa2bb8e0f31233595132da8fb59e22a77f3858808041e',
    '7b52393529c11d63087dc6da140a0b05f7ef5a28c7c7f83ad8067c1c8684e6f7',
    '243a9dbcfba98198894e620f838da9dd53b9f06ed7ef360a06edbc45343dd4c9',
  ],
  [
    99_999,
    '1422794a94361b4314fbcf43525e5fccedcf132be80542c730453906ab2389f2',
    'c9f1b81210b1d2c271f7a515e8fca84e134a287a858bf2f314e71a45d182ae1f',
    'bef0053eab28cf7f22838d65d835acee21e618785a611ef5905aa3a1b491b50d',
  ],
] as const;

describe('benchmark data', () => {
  it('hashes as the other implementation does, negative numbers too', () => {
    assert.equal(mix(1, 2), 232_174_035);
    assert.equal(mix(-1, 12_345), 2_431_024_644);
  });

  for (const [user, profile, visit, history] of USERS) {
    it(`makes the profile, visit and history of ${userId(user)}`, () => {
      assert.equal(sha256(profileJson(user)), profile);
      assert.equal(sha256(visitJson(user)), visit);
      assert.equal(sha256(historyJson(user)), history);
    });
  }

  it('makes the uniform stream: 10,000 events of 1,000 users, each once at first', () => {
    const stream = new EventStream(1_000);
    const hash = createHash('sha256');
    const firstUsers = new Set<number>();
    let fired = 0;
    let firedSum = 0;
    for (let i = 0; i < 10_000; i++) {
      const { user, json } = stream.next();
      if (i < 1_000) firstUsers.add(user);
      hash.update(`${json}\n`);
      if (json.endsWith('"triggerable":true}') && profileJson(user).includes('"country":"US"')) {
        fired++;
        firedSum += i;
      }
    }
    assert.equal(firstUsers.size, 1_000);
    const expected = '647c7de860e3dc7334be32b6d18afa43be9233a27fe23aa716fd9a2eb21a7de5';
    assert.deepEqual([hash.digest('hex'), fired, firedSum], [expected, 403, 1_939_349]);
    assert.deepEqual(stream.expected, { events: 10_000, fired, firedSum });
  });

  it('makes the stream by Zipf, and says what fires in it', () => {
    const stream = new EventStream(1_000, 'zipf');
    const hash = createHash('sha256');
    for (let i = 0; i < 10_000; i++) hash.update(`${stream.next().json}\n`);
    const expected = 'f093aa025964d74bd9b77286483afbaccdc4d8e5116fdbadb2185f9a9df64d27';
    assert.equal(hash.digest('hex'), expected);
    assert.deepEqual(stream.expected, { events: 10_000, fired: 404, firedSum: 2_026_983 });
  });

  it('pads the history of a heavy user', () => {
    const [plain, padded] = [historyEvents(7).join(), historyEvents(7, 1_000).join()];
    assert.equal(padded.length, plain.length + 100 * 1_000);
    assert.equal(padded.replaceAll(/x{1000}/g, ''), plain);
  });

  it('pads with text that is not the same twice, on demand', () => {
    const padded = historyEvents(7, 1_000, true);
    const paddings = padded.map((event) => /[0-9a-f]{1008}/.exec(event)?.[0].slice(8));
    assert.ok(paddings.every((text) => text?.length === 1_000));
    assert.equal(new Set([...paddings, ...historyEvents(8, 1_000, true)]).size, 200);
    assert.deepEqual(historyEvents(7, 1_000, true), padded);
  });

  it('refuses a number of users that its permutation does not cover', () => {
    assert.throws(() => new EventStream(7_919), /multiple of 7919/);
  });
});
