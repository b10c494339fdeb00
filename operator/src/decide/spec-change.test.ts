/** The class of each change, dearest first; one of no known field is of the dearest. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SPEC } from '../model/model-world.ts';
import { factsOf } from './facts-for-tests.ts';
import { type CheckedSpec, checkSpec } from './spec.ts';
import { specChange, stateFault } from './spec-change.ts';

const JOB = factsOf({}).job;

function checked(patch: object): CheckedSpec {
  const verdict = checkSpec(JOB, { ...SPEC, ...patch });
  if ('fault' in verdict) throw new Error(verdict.fault);
  return verdict.spec;
}

const classOf = (patch: object) => specChange(checked({}), checked(patch))?.class ?? null;

describe('a changed spec', () => {
  const cases: [object, ReturnType<typeof classOf>][] = [
    [{}, null],
    [{ deletionPolicy: 'Retain' }, null],
    [{ filter: { script: 'false' } }, 'none'],
    [{ suspend: true, deletionPolicy: 'Delete', upgradeMode: 'last-state' }, 'none'],
    [{ networkPolicy: { enabled: false } }, 'none'],
    [{ taskManager: { replicas: 3, slots: 4 } }, 'scale'],
    [{ parallelism: 4 }, 'scale'],
    [{ jobManager: { replicas: 1, resources: { limits: { cpu: '2' } } } }, 'rolling'],
    [{ jobManager: { replicas: 3 } }, 'scale'],
    [{ jobManager: { replicas: 1, rest: { port: 8082 } } }, 'savepoint-restart'],
    [{ taskManager: { replicas: 2, slots: 2 } }, 'savepoint-restart'],
    [{ state: { ttl: '1h' } }, 'savepoint-restart'],
    [{ image: 'other:1' }, 'savepoint-restart'],
    [{ filter: { script: 'false' }, state: { ttl: '1h' } }, 'savepoint-restart'],
    [{ flinkConfiguration: { 'execution.checkpointing.interval': '30s' } }, 'savepoint-restart'],
    [{ flinkConfiguration: { 'taskmanager.numberOfTaskSlots': 4 } }, 'none'],
    [{ restore: { savepoint: 's3://savepoints/1' } }, 'savepoint-restart'],
  ];
  for (const [patch, expected] of cases) {
    it(`${JSON.stringify(patch)}: ${expected}`, () => assert.equal(classOf(patch), expected));
  }

  it('of the number of key groups is refused, however it is written', () => {
    const before = checked({ flinkConfiguration: { 'pipeline.max-parallelism': 256 } });
    const same = [
      { maxParallelism: 256 },
      { flinkConfiguration: { pipeline: { 'max-parallelism': 256 } } },
    ];
    for (const patch of same) assert.equal(stateFault(before, checked(patch), true), null);
    const nested = { flinkConfiguration: { pipeline: { 'max-parallelism': 512 } } };
    const dotted = { flinkConfiguration: { 'pipeline.max-parallelism': 512 } };
    for (const patch of [nested, dotted, { maxParallelism: 512 }, {}]) {
      const fault = stateFault(before, checked(patch), true) ?? '';
      assert.match(fault, /^spec\.maxParallelism is .*made with 256: write 256 again/);
      const elsewhere = !('maxParallelism' in patch);
      assert.equal(/pipeline\.max-parallelism/.test(fault), elsewhere);
    }
  });

  it('names what changed, and the savepoint that its user goes back to', () => {
    const change = specChange(
      checked({}),
      checked({ restore: { savepoint: 's3://savepoints/1' } }),
    );
    assert.deepEqual(change?.paths, ['restore.savepoint']);
    assert.equal(change?.restore, 's3://savepoints/1');
    const back = specChange(checked({ restore: { savepoint: 's3://savepoints/1' } }), checked({}));
    assert.equal(back?.class, 'none');
  });
});
