/**
 * A local check refuses what the API server refuses, and names the same field. The other half, that
 * the server does, is admission.e2e.ts.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { jobWith } from '../../worker/src/plan/job-for-tests.ts';
import { resolveJob } from '../../worker/src/plan/resolve.ts';
import { BAD_SPECS, WRITTEN } from './bad-specs.ts';

describe('a local check', () => {
  it('has a hundred bad specs and more to judge', () => {
    assert.ok(WRITTEN.length >= 100, `${WRITTEN.length}`);
    assert.ok(BAD_SPECS.length > WRITTEN.length + 50, `${BAD_SPECS.length}`);
  });

  for (const { what, spec, field, before } of BAD_SPECS) {
    if (before !== undefined) continue;
    it(`refuses ${what}`, () => {
      const resolution = resolveJob(jobWith(spec));
      assert.ok('faults' in resolution, 'it was accepted');
      const paths = resolution.faults.map(({ path }) => path);
      assert.ok(
        paths.some((path) => path.startsWith(field)),
        `${field} is not named: ${paths.join(', ')}`,
      );
    });
  }

  it('accepts both sides of what may not be changed', () => {
    const changes = BAD_SPECS.filter(({ before }) => before !== undefined);
    assert.ok(changes.length > 0);
    for (const { spec, before } of changes) {
      for (const side of [spec, before]) assert.ok('plan' in resolveJob(jobWith(side)));
    }
  });
});
