/**
 * The rendered objects of the samples, for people to read: golden/NAME.yaml. After a change that is
 * meant, UPDATE_GOLDEN=1 writes them anew, and the review reads the difference.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { desiredObjects } from './desired.ts';
import { SETTINGS, sampleJob } from './job-for-tests.ts';

const goldenFile = (name: string): string =>
  fileURLToPath(new URL(`golden/${name}.yaml`, import.meta.url));

function render(name: string): string {
  const objects = desiredObjects(sampleJob(name), { run: 1 }, SETTINGS);
  const options = { lineWidth: 100, aliasDuplicateObjects: false };
  return objects.map((object) => stringify(object, options)).join('---\n');
}

/** The whole files side by side would say less. */
function firstDifference(rendered: string, golden: string): string | null {
  const [now, then] = [rendered.split('\n'), golden.split('\n')];
  const index = now.findIndex((line, at) => line !== then[at]);
  if (index < 0) return now.length === then.length ? null : `golden ends with ${then.at(-1)}`;
  return `line ${index + 1}: ${now[index]?.trim()}, golden: ${then[index]?.trim()}`;
}

describe('the objects of a sample', () => {
  for (const name of ['first', 'triggerjob', 'small', 'medium', 'large']) {
    it(`${name} are those of golden/${name}.yaml`, () => {
      const rendered = render(name);
      if (process.env.UPDATE_GOLDEN === '1') writeFileSync(goldenFile(name), rendered);
      assert.equal(firstDifference(rendered, readFileSync(goldenFile(name), 'utf8')), null);
    });
  }
});
