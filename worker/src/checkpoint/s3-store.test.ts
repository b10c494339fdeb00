/** The S3 store against a hand-written S3 and everything that can go wrong on the way to it. */
import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { S3Plan } from '../plan/job-plan.ts';
import { realEnv } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { type FakeFault, type FakeOperation, type FakeRequest, FakeS3 } from './fake-s3.ts';
import { JobLog } from './log.ts';
import type { ObjectStore } from './object-store.ts';
import { openStore } from './open-store.ts';
import { S3_LIMITS, type S3Limits } from './s3-request.ts';
import { openS3Store } from './s3-store.ts';
import type { PartLimits } from './s3-upload.ts';
import { describeStoreContract } from './store-contract.ts';

const LIMITS: S3Limits & PartLimits = {
  ...S3_LIMITS,
  attemptMs: 400,
  totalMs: 3_000,
  leastBytesPerSecond: 100 * 1024 * 1024,
  firstPauseMs: 1,
  longestPauseMs: 20,
  partBytes: 300_000,
  partsInFlight: 3,
};
const SECRET = 'the-secret-key-itself';

let fake: FakeS3;
let folder: string;
let plan: S3Plan;

before(async () => {
  fake = await FakeS3.start();
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-s3-'));
  plan = { ...fake.plan, credentials: await credentials('test-key') };
});
after(async () => {
  fake.stop();
  await rm(folder, { recursive: true });
});

async function credentials(accessKeyId: string) {
  const files = { accessKey: join(folder, 'access-key'), secretKey: join(folder, 'secret-key') };
  await writeFile(`${files.accessKey}.new`, `${accessKeyId}\n`);
  await writeFile(files.secretKey, `${SECRET}\n`);
  await rename(`${files.accessKey}.new`, files.accessKey);
  return { accessKey: { path: files.accessKey }, secretKey: { path: files.secretKey } };
}

/** Runs with a store in an empty bucket, and without faults afterwards. */
async function withStore(
  work: (store: ObjectStore) => Promise<void>,
  limits: Partial<S3Limits & PartLimits> = {},
): Promise<void> {
  const store = await openS3Store('s3://bucket/jobs/a/', realEnv, {
    s3: plan,
    creates: false,
    limits: { ...LIMITS, ...limits },
  });
  fake.objects.clear();
  fake.requests.length = 0;
  try {
    await work(store);
  } finally {
    fake.fault = () => null;
    fake.createOnly = true;
    fake.pageSize = 1000;
  }
}

/** `fault` for the first `times` requests of `operation`. */
function fail(operation: FakeOperation, times: number, fault: FakeFault): void {
  fake.fault = (request) =>
    request.operation === operation && request.before < times ? fault : null;
}

const bytes = (text: string) => Buffer.from(text);
const slowDown: FakeFault = { kind: 'answer', status: 503, code: 'SlowDown' };
const denied: FakeFault = { kind: 'answer', status: 403, code: 'AccessDenied' };

describeStoreContract('the S3 store, on the fake,', {
  open: (place) => openS3Store(`s3://bucket/${place}`, realEnv, { s3: plan, creates: true }),
  racers: 8,
  rounds: 20,
});

describe('an S3 store', () => {
  it('names its URL without a slash at the end, keys with its prefix', () =>
    withStore(async (store) => {
      assert.equal(store.url, 's3://bucket/jobs/a');
      await store.put('log/0', bytes('x'));
      assert.deepEqual([...fake.objects.keys()], ['jobs/a/log/0']);
      fake.objects.set('jobs/a/log/', { content: Buffer.alloc(0), modifiedAt: 0 });
      fake.objects.set('jobs/ab/log/0', { content: Buffer.alloc(0), modifiedAt: 0 });
      const names = (await store.list('')).map((one) => one.name);
      assert.deepEqual(names, ['log/0'], "neither a console's folder nor a neighbour's object");
    }));

  it('tries again whatever may pass: overload, conflicts, cut connections, damage', () =>
    withStore(async (store) => {
      const faults: FakeFault[] = [
        slowDown,
        { kind: 'answer', status: 500, code: 'InternalError' },
        { kind: 'answer', status: 429, code: 'TooManyRequests' },
        { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' },
        { kind: 'answer', status: 400, code: 'RequestTimeout' },
        { kind: 'answer', status: 400, code: 'XAmzContentSHA256Mismatch' },
        { kind: 'answer', status: 502, body: '<html><body>Bad gateway<br></body></html>' },
        { kind: 'answer', status: 503, body: '' },
        { kind: 'cut' },
        { kind: 'hang' },
      ];
      for (const [n, fault] of faults.entries()) {
        fake.requests.length = 0;
        fail('PutObject', 2, fault);
        await store.put(`put/${n}`, bytes('content'));
        assert.equal(fake.countOf('PutObject'), 3, JSON.stringify(fault));
        fake.requests.length = 0;
        fail('GetObject', 1, fault);
        assert.equal(String(await store.get(`put/${n}`)), 'content', JSON.stringify(fault));
      }
    }));

  it('gives up at once on what stays, and after its time on what does not pass', () =>
    withStore(
      async (store) => {
        fail('PutObject', 99, denied);
        await assert.rejects(store.put('a', bytes('x')), {
          code: 'STORE_REQUEST',
          retryable: false,
          message: /^putting a in s3:\/\/bucket\/jobs\/a: AccessDenied: .*\(403, request r1\)$/,
        });
        assert.equal(fake.countOf('PutObject'), 1);
        fail('PutObject', 1e6, slowDown);
        await assert.rejects(store.put('a', bytes('x')), {
          code: 'STORE_REQUEST',
          retryable: true,
          message: /SlowDown.*; tried \d+ times in 0\.\d s$/,
        });
        assert.ok(fake.countOf('PutObject') > 5);
        fail('PutObject', 1e6, { kind: 'hang' });
        await assert.rejects(store.put('a', bytes('x')), { message: /no complete answer within/ });
      },
      { totalMs: 300, attemptMs: 100 },
    ));

  it('never shows a secret, not even in the cause of a fault', () =>
    withStore(async (store) => {
      fail('PutObject', 1, { kind: 'answer', status: 403, code: 'SignatureDoesNotMatch' });
      const fault = await store.put('a', bytes('x')).catch((thrown: unknown) => thrown);
      assert.match(messageOf(fault), /SignatureDoesNotMatch/);
      const shown = `${JSON.stringify(fault, Object.getOwnPropertyNames(fault))}${String(fault)}`;
      assert.doesNotMatch(shown, /the-secret-key|test-key|Signature=/);
    }));

  it('uses a rotated key at the next request, and waits for the other half of a rotation', () =>
    withStore(async (store) => {
      await store.put('a', bytes('x'));
      fake.accessKeyId = 'next-key';
      try {
        await assert.rejects(store.put('a', bytes('x')), { message: /InvalidAccessKeyId/ });
        await rm(join(folder, 'secret-key'));
        const waiting = store.put('a', bytes('x'));
        await wait(50);
        await credentials('next-key');
        await waiting;
      } finally {
        fake.accessKeyId = 'test-key';
        await credentials('test-key');
      }
    }));
});

describe('an S3 create', () => {
  it("answers 'exists' when its own first answer was lost, and the log finds its record", () =>
    withStore(async (store) => {
      fail('PutObject', 1, { kind: 'lost' });
      assert.equal(await store.create('log/x', bytes('mine')), 'exists');
      assert.equal(String(await store.get('log/x')), 'mine');
      fake.requests.length = 0;
      fake.fault = ({ operation, before }) =>
        operation === 'PutObject' && before % 2 === 0 ? { kind: 'lost' } : null;
      const log = new JobLog({ store, env: realEnv, writer: 'test', retained: 1 });
      const records = await log.takeover({ lineage: 'l', restoredFrom: null });
      assert.deepEqual(
        records.map((record) => record.kind),
        ['genesis', 'takeover'],
      );
    }));

  it('is refused at the start by a store that overwrites', () =>
    withStore(async () => {
      fake.createOnly = false;
      const open = (creates: boolean) =>
        openS3Store('s3://bucket/x', realEnv, { s3: plan, creates, limits: LIMITS });
      await assert.rejects(open(true), {
        code: 'STORE_NOT_CREATE_ONLY',
        message: /answered: created, created, second\).*If-None-Match/,
      });
      assert.equal(fake.objects.size, 0, 'the probe is gone');
      await open(false);
    }));

  it('is believed when only the first answer of the probe was lost', () =>
    withStore(async () => {
      fail('PutObject', 1, { kind: 'lost' });
      await openS3Store('s3://bucket/x', realEnv, { s3: plan, creates: true, limits: LIMITS });
    }));
});

describe('an S3 read', () => {
  it('takes nothing but NoSuchKey for absence (P41, I6)', () =>
    withStore(async (store) => {
      const others: FakeFault[] = [
        denied,
        { kind: 'answer', status: 404, code: 'NoSuchBucket' },
        { kind: 'answer', status: 404, body: '' },
        { kind: 'answer', status: 404, body: '<html>not here</html>' },
        { kind: 'answer', status: 401, body: '' },
        { kind: 'answer', status: 301, code: 'PermanentRedirect' },
        { kind: 'answer', status: 501, code: 'NotImplemented' },
      ];
      for (const fault of others) {
        fail('GetObject', 1e6, fault);
        const what = JSON.stringify(fault);
        await assert.rejects(store.get('a'), { code: 'STORE_REQUEST' }, what);
        await assert.rejects(store.getRange('a', 0, 1), { code: 'STORE_REQUEST' }, what);
      }
      fake.fault = () => null;
      assert.equal(await store.get('a'), null);
      await assert.rejects(store.getRange('a', 0, 1), { message: /NoSuchKey/ });
    }));

  it('reads again what was cut or hangs in the middle, and leaves no socket behind', () =>
    withStore(
      async (store) => {
        const before = await fake.connections();
        const content = Buffer.alloc(200_000, 'body');
        await store.put('a', content);
        for (const end of ['cut', 'hang'] as const) {
          fake.requests.length = 0;
          fail('GetObject', 2, { kind: 'torn', bytes: 70_000, end });
          assert.ok((await store.get('a'))?.equals(content), end);
          assert.equal(fake.countOf('GetObject'), 3);
          fake.requests.length = 0;
          assert.equal((await store.getRange('a', 50, 100_000)).length, 100_000);
        }
        fail('GetObject', 1e6, { kind: 'torn', bytes: 10, end: 'hang' });
        await Promise.all(
          Array.from({ length: 60 }, () => assert.rejects(store.get('a'), { retryable: true })),
        );
        fake.fault = () => null;
        await store.get('a');
        const left = (await fake.connections()) - before;
        assert.ok(left < 5, `${left} connections more are open`);
      },
      { totalMs: 800, attemptMs: 150 },
    ));

  it('refuses a store that ignores ranges', () =>
    withStore(async (store) => {
      fail('GetObject', 1, { kind: 'answer', status: 200, body: '0123456789' });
      await assert.rejects(store.getRange('a', 2, 3), { message: /answered without a range/ });
    }));
});

describe('an S3 list', () => {
  it('goes through all pages, each tried again by itself', () =>
    withStore(async (store) => {
      const names = Array.from(
        { length: 57 },
        (_, i) => `segments/1/${String(i).padStart(3, '0')}`,
      );
      await Promise.all(names.map((name) => store.put(name, bytes(name))));
      fake.pageSize = 10;
      fake.fault = ({ operation, before }) =>
        operation === 'ListObjectsV2' && before % 2 === 1 ? slowDown : null;
      const found = (await store.list('segments/')).map((one) => one.name);
      assert.deepEqual(found.toSorted(), names);
      assert.equal(fake.countOf('ListObjectsV2'), 11);
    }));

  it('throws rather than leave something out', () =>
    withStore(async (store) => {
      const cut = '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>';
      fail('ListObjectsV2', 1e6, { kind: 'answer', status: 200, body: cut });
      await assert.rejects(store.list(''), { message: /can not go on/ });
      fail('ListObjectsV2', 1e6, denied);
      await assert.rejects(store.list(''), { message: /AccessDenied/ });
    }));
});

describe('an S3 delete', () => {
  it('takes a thousand at a time', () =>
    withStore(async (store) => {
      const names = Array.from({ length: 2_345 }, (_, i) => `segments/1/${i}`);
      for (const name of names) {
        fake.objects.set(`jobs/a/${name}`, { content: Buffer.alloc(0), modifiedAt: 0 });
      }
      await store.delete(names);
      assert.equal(fake.objects.size, 0);
      assert.equal(fake.countOf('DeleteObjects'), 3);
    }));

  it("throws a key's own fault, and asks again only for keys that may pass", () =>
    withStore(async (store) => {
      const names = ['a', 'b', 'c'];
      const deleting = async (failing: Record<string, string>, times: number) => {
        for (const name of names) await store.put(name, bytes(name));
        fake.requests.length = 0;
        fail('DeleteObjects', times, { kind: 'keys', failing });
        await store.delete(names);
      };
      await deleting({ 'jobs/a/b': 'InternalError' }, 2);
      const bodies = fake.requests.map((request: FakeRequest) => request.body.toString());
      assert.equal(bodies.length, 3);
      assert.doesNotMatch(bodies[1] ?? '', /jobs\/a\/a/);
      assert.equal(fake.objects.size, 0);
      await deleting({ 'jobs/a/b': 'NoSuchKey' }, 1);
      await assert.rejects(deleting({ 'jobs/a/b': 'AccessDenied' }, 9), {
        message: /deleting 3 objects in .*: 1 of them failed, first jobs\/a\/b: AccessDenied: no/,
      });
      assert.deepEqual([...fake.objects.keys()], ['jobs/a/b']);
    }));
});

describe('an S3 put beyond the size of a part', () => {
  const content = Buffer.alloc(1_000_000, 'some content of a segment');

  it('goes up in parts, a few at a time', () =>
    withStore(async (store) => {
      fail('UploadPart', 3, { kind: 'hang' });
      const putting = store.put('segments/1/a', content);
      await wait(LIMITS.attemptMs / 2);
      assert.equal(fake.countOf('UploadPart'), LIMITS.partsInFlight, 'the fourth waits');
      await putting;
      assert.ok((await store.get('segments/1/a'))?.equals(content));
      assert.equal(fake.countOf('UploadPart'), 3 + 4);
      assert.equal(fake.countOf('PutObject'), 0);
      assert.equal(fake.uploads.size, 0);
    }));

  it('tries parts again by themselves', () =>
    withStore(async (store) => {
      fake.fault = ({ operation, before }) =>
        operation === 'UploadPart' && before < 6
          ? ([slowDown, { kind: 'cut' }, { kind: 'lost' }] as const)[before % 3]!
          : null;
      await store.put('segments/1/a', content);
      assert.ok((await store.get('segments/1/a'))?.equals(content));
      assert.equal(fake.countOf('CreateMultipartUpload'), 1);
      assert.equal(fake.countOf('UploadPart'), 10);
    }));

  it('is abandoned when a part or its completion fails: no object, no stored parts', () =>
    withStore(async (store) => {
      for (const operation of ['UploadPart', 'CompleteMultipartUpload'] as const) {
        fake.requests.length = 0;
        fail(operation, 99, denied);
        await assert.rejects(store.put('segments/1/a', content), { message: /AccessDenied/ });
        assert.equal(fake.countOf('AbortMultipartUpload'), 1, operation);
        assert.equal(fake.requests.at(-1)?.operation, 'AbortMultipartUpload', 'no part after it');
        assert.deepEqual([fake.uploads.size, fake.objects.size], [0, 0]);
      }
    }));

  it('has succeeded when only the answer to its completion was lost', () =>
    withStore(async (store) => {
      fail('CompleteMultipartUpload', 1, { kind: 'lost' });
      await store.put('segments/1/a', content);
      assert.ok((await store.get('segments/1/a'))?.equals(content));
      fail('CompleteMultipartUpload', 99, { kind: 'answer', status: 404, code: 'NoSuchUpload' });
      await assert.rejects(store.put('segments/1/b', content), { message: /NoSuchUpload|Unknown/ });
    }));
});

describe('opening', () => {
  const limits = { ...LIMITS, totalMs: 200 };
  const open = (url: string, s3: S3Plan) =>
    openS3Store(url, realEnv, { s3, creates: false, limits });

  it('says what is wrong with endpoint, bucket or credentials', async () => {
    const cases: [string, Partial<S3Plan>, RegExp, boolean][] = [
      ['s3://other/x', {}, /s3:\/\/other\/x can't be used.*NoSuchBucket/, false],
      ['s3://bucket/x', { endpoint: 'http://127.0.0.1:9' }, /ECONNREFUSED/, true],
      [
        's3://bucket/x',
        { credentials: { accessKey: { path: '/none' }, secretKey: { path: '/none' } } },
        /file \/none can't be read/,
        true,
      ],
    ];
    for (const [url, other, message, retryable] of cases) {
      const fault = await open(url, { ...plan, ...other }).catch((thrown: unknown) => thrown);
      assert.ok(fault instanceof TriggerJobError);
      assert.deepEqual([fault.code, fault.retryable], ['STORE_UNUSABLE', retryable]);
      assert.match(messageOf(fault), message);
    }
  });

  it('goes by the URL, and by the environment where the job says nothing', async () => {
    const names = ['AWS_ENDPOINT_URL_S3', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];
    const values = [fake.endpoint, 'test-key', SECRET];
    const kept = names.map((name) => process.env[name]);
    names.forEach((name, index) => {
      process.env[name] = values[index];
    });
    try {
      const store = await openStore('s3://bucket/env/', realEnv);
      await store.put('a', bytes('1'));
      assert.equal(fake.objects.has('env/a'), true);
    } finally {
      names.forEach((name, index) => {
        const value = kept[index];
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      });
    }
  });
});
