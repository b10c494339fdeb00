import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { faultsOf, planOf } from './job-for-tests.ts';

type Fields = Record<string, unknown>;

const PATH = 'spec.checkpointing.s3';
const local = { local: { baseDir: '/jobs', stateDir: '/state' } };
const with_ = (s3: Fields): Fields => ({ checkpointing: { s3 } });

describe('the S3 endpoint', () => {
  it('is left to the environment unless the job says something', () => {
    const nothing = { endpoint: null, region: null, pathStyle: null, credentials: null };
    assert.deepEqual(planOf().checkpointing.s3, nothing);
    const s3 = { endpoint: 'http://minio:9000', region: 'eu-central-1', pathStyle: false };
    assert.deepEqual(planOf(with_(s3)).checkpointing.s3, { ...s3, credentials: null });
  });

  it('takes its credentials from files, of a Secret or beside the job file', () => {
    const credentialsOf = (s3: Fields, options = {}) => {
      const { credentials } = planOf(with_(s3), options).checkpointing.s3;
      return [credentials?.accessKey.path, credentials?.secretKey.path];
    };
    const files = { accessKeyFile: '/run/id', secretKeyFile: '/run/key' };
    assert.deepEqual(credentialsOf(files), ['/run/id', '/run/key']);
    const beside = { accessKeyFile: 'id', secretKeyFile: 'key' };
    assert.deepEqual(credentialsOf(beside, local), ['/jobs/id', '/jobs/key']);
    const mount = '/etc/triggerjob/secrets/minio';
    const ref = { credentialsRef: { name: 'minio' } };
    assert.deepEqual(credentialsOf(ref), [`${mount}/access-key`, `${mount}/secret-key`]);
    const named = { ...ref, accessKeyFile: 'user' };
    assert.deepEqual(credentialsOf(named), [`${mount}/user`, `${mount}/secret-key`]);
  });

  const refused: [string, Fields, string, RegExp][] = [
    ['one file of two', { accessKeyFile: '/id' }, 'secretKeyFile', /accessKeyFile needs it/],
    ['the other of two', { secretKeyFile: '/key' }, 'accessKeyFile', /secretKeyFile needs it/],
    [
      'a relative file in a cluster',
      { accessKeyFile: 'id', secretKeyFile: '/key' },
      'accessKeyFile',
      /absolute path, or give credentialsRef/,
    ],
    ['an endpoint that is no URL', { endpoint: 'minio:9000' }, 'endpoint', /http/],
    ['a secret in the endpoint', { endpoint: 'http://u:p@minio' }, 'endpoint', /password/],
    ['a query', { endpoint: 'http://minio/?a=b' }, 'endpoint', /remove the query/],
    ['a region that is none', { region: 'eu central' }, 'region', /lower case/],
    ['a secret in the file', { secretKey: 'xyz' }, 'secretKey', /did you mean .*secretKeyFile/],
  ];
  for (const [what, s3, field, message] of refused) {
    it(`refuses ${what}`, () => {
      const faults = faultsOf(with_(s3));
      assert.deepEqual(
        faults.map(({ path }) => path),
        [`${PATH}.${field}`],
      );
      assert.match(faults[0]?.message ?? '', message);
    });
  }
});

describe("Flink's S3 keys", () => {
  it('set it', () => {
    const flinkConfiguration = {
      s3: { endpoint: 'http://minio:9000', 'path.style.access': true, region: 'eu-central-1' },
    };
    assert.deepEqual(planOf({ flinkConfiguration }).checkpointing.s3, {
      endpoint: 'http://minio:9000',
      region: 'eu-central-1',
      pathStyle: true,
      credentials: null,
    });
  });

  it('never take a secret, and never show one', () => {
    for (const key of ['s3.access-key', 's3.secret-key', 's3.access.key', 's3.secret.key']) {
      const [fault, ...others] = faultsOf({ flinkConfiguration: { [key]: 'TOPSECRET' } });
      assert.match(fault?.message ?? '', /credentialsRef.*AWS_ACCESS_KEY_ID/);
      assert.doesNotMatch(JSON.stringify([fault, others]), /TOPSECRET/);
      assert.equal(others.length, 0);
    }
  });
});
