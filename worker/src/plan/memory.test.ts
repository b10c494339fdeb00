/**
 * The formulas of memory.ts: nothing is divided twice, and what does not fit is refused by name.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { faultsOf, planOf } from './job-for-tests.ts';
import { divideMemory, type MemoryRequest } from './memory.ts';

const MEBI = 1024 ** 2;

const request = (patch: Partial<MemoryRequest> = {}): MemoryRequest => ({
  processBytes: 4096 * MEBI,
  slots: 4,
  parallelism: 4,
  bufferBytes: 32_768,
  managedFraction: 0.4,
  networkFraction: 0.1,
  networkMin: 64 * MEBI,
  ...patch,
});

const fieldsOf = (patch: Partial<MemoryRequest>): string[] => {
  const division = divideMemory(request(patch));
  return 'plan' in division ? [] : division.problems.map(({ field }) => field);
};

describe('the division of a TaskManager', () => {
  it('takes 4 GiB apart by the documented shares', () => {
    const division = divideMemory(request());
    assert.ok('plan' in division);
    const { plan } = division;
    const managed = Math.floor(4096 * MEBI * 0.4);
    const slot = Math.floor(managed / 4);
    assert.equal(plan.processBytes, 4096 * MEBI);
    assert.equal(plan.managedBytes, managed);
    assert.equal(plan.networkBytes, Math.floor(4096 * MEBI * 0.1));
    assert.equal(plan.slotCacheBytes, Math.floor(slot * 0.5));
    assert.equal(plan.slotBlockCacheBytes, Math.floor(slot * 0.15));
    assert.equal(plan.slotMemtableBytes, Math.floor(slot * 0.25));
    assert.equal(plan.slotDeltaBytes, Math.floor(slot * 0.1));
    assert.equal(division.overheadBytes, Math.floor(4096 * MEBI * 0.1));
  });

  it('never gives out more than the process has, for any request that it accepts', () => {
    let accepted = 0;
    const optional = (max: number) => fc.option(fc.integer({ min: 0, max }), { nil: undefined });
    const requests = fc.record({
      processBytes: fc.integer({ min: 256 * MEBI, max: 65_536 * MEBI }),
      slots: fc.integer({ min: 1, max: 16 }),
      managedFraction: fc.double({ min: 0.05, max: 0.7, noNaN: true }),
      networkFraction: fc.double({ min: 0.01, max: 0.3, noNaN: true }),
      networkMin: fc.integer({ min: 0, max: 256 * MEBI }),
      networkMax: optional(4096 * MEBI),
      managedSize: optional(8192 * MEBI),
      heapSize: optional(8192 * MEBI),
      slotCache: optional(512 * MEBI),
      slotDelta: optional(64 * MEBI),
      slotOutbox: optional(512 * MEBI),
    });
    fc.assert(
      fc.property(requests, (patch) => {
        const division = divideMemory(request({ ...patch, parallelism: patch.slots }));
        if ('problems' in division) return;
        accepted++;
        const { plan, overheadBytes } = division;
        const perSlot =
          Math.ceil(plan.slotCacheBytes / 2) +
          plan.slotOutboxBytes +
          plan.slotBlockCacheBytes +
          plan.slotMemtableBytes +
          plan.slotDeltaBytes;
        const all = plan.heapBytes + patch.slots * perSlot + plan.networkBytes + overheadBytes;
        assert.ok(all <= plan.processBytes, `${all} of ${plan.processBytes}`);
        const shares =
          plan.slotCacheBytes +
          plan.slotBlockCacheBytes +
          plan.slotMemtableBytes +
          plan.slotDeltaBytes;
        assert.ok(patch.slots * shares <= plan.managedBytes);
        for (const bytes of Object.values(plan))
          assert.ok(Number.isSafeInteger(bytes) && bytes >= 0);
      }),
      { seed: 7, numRuns: 2000 },
    );
    assert.ok(accepted > 200, `only ${accepted} of 2000 requests were accepted`);
  });

  it('keeps the network within its limits', () => {
    const networkOf = (patch: Partial<MemoryRequest>) => {
      const division = divideMemory(request(patch));
      assert.ok('plan' in division);
      return division.plan.networkBytes;
    };
    assert.equal(networkOf({ networkMin: 512 * MEBI }), 512 * MEBI);
    assert.equal(networkOf({ networkMax: 100 * MEBI }), 100 * MEBI);
    assert.deepEqual(fieldsOf({ networkMin: 200 * MEBI, networkMax: 100 * MEBI }), ['network']);
  });

  it('gives what is left of a slot to the shares that are not fixed', () => {
    const division = divideMemory(request({ slotCache: MEBI, managedSize: 401 * 4 * MEBI }));
    assert.ok('plan' in division);
    assert.equal(division.plan.slotCacheBytes, MEBI);
    assert.equal(division.plan.slotBlockCacheBytes, 120 * MEBI);
    assert.equal(division.plan.slotMemtableBytes, 200 * MEBI);
    assert.equal(division.plan.slotDeltaBytes, 80 * MEBI);
  });

  it('refuses what does not fit, by the field to change', () => {
    assert.deepEqual(fieldsOf({}), []);
    assert.deepEqual(fieldsOf({ processBytes: 512 * MEBI }), ['process']);
    assert.deepEqual(fieldsOf({ heapSize: 3000 * MEBI }), ['heapSize']);
    assert.deepEqual(fieldsOf({ heapSize: 64 * MEBI }), ['heapSize']);
    assert.deepEqual(fieldsOf({ heapSize: 1024 * MEBI }), []);
    assert.deepEqual(fieldsOf({ managedSize: 8 * MEBI }), ['managed']);
    assert.deepEqual(fieldsOf({ slotCache: 500 * MEBI }), ['slots']);
    assert.deepEqual(fieldsOf({ slotOutbox: 400 * MEBI }), ['slotOutbox']);
    assert.deepEqual(fieldsOf({ slotOutbox: 200 * MEBI }), []);
    assert.deepEqual(fieldsOf({ parallelism: 4000 }), ['network']);
  });
});

describe('the memory of a job', () => {
  it('is 4Gi without limits, else the limit, else the request', () => {
    const processOf = (resources?: Record<string, unknown>) =>
      planOf({ taskManager: { resources } }).memory.processBytes;
    assert.equal(processOf(), 4096 * MEBI);
    assert.equal(processOf({ requests: { memory: '2Gi' } }), 2048 * MEBI);
    assert.equal(
      processOf({ requests: { memory: '2Gi' }, limits: { memory: '8Gi' } }),
      8192 * MEBI,
    );
  });

  it('faults name the field', () => {
    const pathsOf = (taskManager: Record<string, unknown>) =>
      faultsOf({ taskManager }).map(({ path }) => path);
    const limits = { memory: '400Mi' };
    assert.deepEqual(pathsOf({ resources: { limits } }), [
      'spec.taskManager.resources.limits.memory',
    ]);
    assert.deepEqual(pathsOf({ memory: { managedSize: '1Mi' } }), [
      'spec.taskManager.memory.managedSize',
    ]);
    assert.deepEqual(pathsOf({ memory: { slotOutbox: '2Gi' } }), [
      'spec.taskManager.memory.slotOutbox',
    ]);
  });
});
