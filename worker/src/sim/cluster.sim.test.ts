/**
 * The cluster under crashes, cuts and stops at every step. A failure names its seed; that run
 * again, with a trace:  TRIGGERJOB_SIM_SEED=<n> node --test worker/src/sim/cluster.sim.test.ts
 */
import './quiet-zstd.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hits } from '../rehearsal/seeded.ts';
import { BRANCHES } from './branches.ts';
import { LEADER_CHANGES } from './leader-checks.ts';
import { DISTURBANCE_MUTANTS, MUTANTS, mayShow, REPLAY_MUTANTS } from './mutants.ts';
import { JOBMANAGER_POINTS, RESCALE_POINTS, scenarioOf, TASKMANAGER_POINTS } from './scenario.ts';
import { runSeeds } from './seeds.ts';
import { runSeed } from './world.ts';

const SEEDS = 2_000;
/** On a quiet machine of 2 cores. */
const GOAL_SECONDS = 300;
const MUTANT_SEEDS = 400;
const only = process.env['TRIGGERJOB_SIM_SEED'];

if (only !== undefined) {
  test('one seed, traced', async () => {
    const trace = (line: string) => process.stdout.write(`${line}\n`);
    await runSeed(Number(only), new Hits(), { trace });
  });
} else {
  test('a seed is one run', async () => {
    const traces: string[] = [];
    for (let time = 0; time < 2; time++) {
      const lines: string[] = [];
      await runSeed(7, new Hits(), { trace: (line) => lines.push(line) });
      traces.push(lines.join('\n'));
    }
    assert.ok(traces[0]!.length > 10_000);
    assert.equal(traces[0], traces[1]);
  });

  test(`${SEEDS} seeds`, async (t) => {
    const { hits, seconds, cpuSeconds } = await runSeeds(SEEDS);
    const verdict = seconds <= GOAL_SECONDS ? 'reached' : 'missed';
    t.diagnostic(
      `${SEEDS} seeds in ${seconds.toFixed(0)} s, ${cpuSeconds.toFixed(0)} s of CPU, ` +
        `goal <= ${GOAL_SECONDS} s on 2 quiet cores: ${verdict}`,
    );
    for (const [what, count] of [...hits.counts].sort()) t.diagnostic(`${count}\t${what}`);
    const wanted = [
      ...BRANCHES,
      ...TASKMANAGER_POINTS.map((point) => `crash of taskmanager: ${point}`),
      ...[...JOBMANAGER_POINTS, ...RESCALE_POINTS].map((point) => `crash of jobmanager: ${point}`),
      ...LEADER_CHANGES.map((what) => `leader: ${what}`),
    ];
    const missed = wanted.filter((what) => !hits.counts.has(what));
    assert.deepEqual(missed, [], 'these were never hit');
  });

  for (const mutant of [...MUTANTS, ...REPLAY_MUTANTS, ...DISTURBANCE_MUTANTS]) {
    test(`red: ${mutant}`, async (t) => {
      for (let seed = 1; seed <= MUTANT_SEEDS; seed++) {
        if (!mayShow(mutant, scenarioOf(seed))) continue;
        try {
          await runSeed(seed, new Hits(), { mutant, ledgers: false });
        } catch (fault) {
          t.diagnostic(`found by seed ${seed}: ${(fault as Error).message.slice(0, 200)}`);
          return;
        }
      }
      assert.fail(`${MUTANT_SEEDS} seeds did not find ${mutant}`);
    });
  }
}
