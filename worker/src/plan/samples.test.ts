/** Every file of config/samples/ is a valid job, and is what its name says. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadPlanFile } from './plan-file.ts';

const FOLDER = fileURLToPath(new URL('../../../config/samples/', import.meta.url));
const SAMPLES = ['demo', 'demo-kafka', 'first', 'triggerjob', 'small', 'medium', 'large'];

async function sample(name: string, stateDir: string | null = '/state') {
  const { plan, doc, faults } = await loadPlanFile(`${FOLDER}${name}.yaml`, { stateDir });
  assert.deepEqual(faults, [], name);
  assert.ok(plan);
  return { plan, doc };
}

describe('the samples', () => {
  it('are all tested here', () => {
    const files = readdirSync(FOLDER).filter((name) => /(?<!\.tests)\.yaml$/.test(name));
    for (const name of SAMPLES) assert.ok(files.includes(`${name}.yaml`), name);
  });

  for (const file of readdirSync(FOLDER).filter((name) => /(?<!\.tests)\.yaml$/.test(name))) {
    it(`${file} is valid`, async () => assert.ok(await sample(file.replace('.yaml', ''))));
  }

  for (const name of ['first', 'triggerjob', 'small', 'medium', 'large']) {
    it(`${name} is valid in a cluster`, async () => {
      const { plan } = await sample(name, null);
      assert.equal(plan.source.kind, 'kafka');
      assert.match(plan.checkpointing.directory, /^s3:/);
      assert.equal(plan.localStateDir, '/data/rocksdb');
    });
  }

  it("of the demo generate or read the demo's events", async () => {
    const { plan } = await sample('demo');
    assert.ok(plan.source.kind === 'datagen' && plan.action.kind === 'webhook');
    assert.deepEqual([plan.source.eventsPerSecond, plan.source.users], [2000, 1000]);
    assert.equal(plan.state.profileApi?.url, 'http://127.0.0.1:8090');
    assert.equal(plan.action.url, 'http://127.0.0.1:8091/hook');
    assert.equal(plan.action.allowPrivateAddresses, true);
    assert.deepEqual([plan.checkpointing.intervalMs, plan.checkpointing.minPauseMs], [10_000, 0]);
    assert.deepEqual([plan.parallelism, plan.maxParallelism, plan.taskManagers], [4, 128, 1]);
    const kafka = (await sample('demo-kafka')).plan;
    assert.ok(kafka.source.kind === 'kafka');
    assert.deepEqual(kafka.source.connection, { bootstrapServers: ['127.0.0.1:9092'] });
    assert.deepEqual(kafka.filter, plan.filter);
  });
});
