/** One measured run against an engine that is a script: what is taken from it, and what is said. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { EngineRun, Launch, Outcome } from './engine.ts';
import { measureRun } from './engine-run.ts';
import { RateBins } from './rate-bins.ts';
import { SETTINGS } from './settings.ts';

const USERS = 100;
const EVENTS = 1_000;
const EXPECTED = { events: USERS + EVENTS, fired: 44, firedSum: 24_200 };

function launch(key: string): Launch {
  const setting = SETTINGS.find((one) => one.key === key)!;
  const events = setting.events === 0 ? 0 : EVENTS;
  // A black hole: the run asks its service nothing.
  return { setting: { ...setting, users: USERS, events } } as Launch;
}

/** Handles so many events from look to look, a second apart by its own clock; notes calls. */
class ScriptedRun implements EngineRun {
  readonly startedAt = Date.now();
  readonly handled = new RateBins();
  readonly calls: string[] = [];
  readonly #outcomes: Outcome[];
  readonly #eventsPerLook: number;
  #looks = 0;

  constructor(outcomes: Outcome[], eventsPerLook = 100) {
    this.#outcomes = outcomes;
    this.#eventsPerLook = eventsPerLook;
  }

  async progress() {
    this.#looks += 1;
    return {
      at: this.startedAt + this.#looks * 1_000,
      processed: this.#looks * this.#eventsPerLook,
    };
  }

  async firstRecordAt() {
    return this.startedAt + 1_500;
  }

  async processes() {
    return { jobManager: process.pid, taskManager: process.pid };
  }

  async checkpoints() {
    const one = { durationMs: 40, uploadedBytes: 3 * 1024 ** 2 };
    const inFill = { ...one, triggeredAt: this.startedAt + 1_600, durationMs: 9_000 };
    const soon = this.startedAt + 60_000;
    return [inFill, { ...one, triggeredAt: soon }, { ...one, triggeredAt: soon, durationMs: 60 }];
  }

  async pauseP99Ms() {
    return 7;
  }

  async outcome() {
    return this.#outcomes.length > 1 ? this.#outcomes.shift()! : this.#outcomes[0]!;
  }

  async killTaskManager() {
    this.calls.push('kill');
    return this.startedAt;
  }

  async recovery() {
    return this.calls.includes('kill') ? { firstRecordMs: 2_500, caughtUpMs: 3_000 } : null;
  }

  async end() {
    this.calls.push('end');
  }
}

const right: Outcome = { ...EXPECTED, faults: [] };
const topic = { expected: EXPECTED, write: async () => undefined };

describe('measured run', () => {
  it('takes its figures after the fill, and waits until the results are right', async () => {
    const early = { ...right, fired: 40, faults: ['not all is done'] };
    const run = new ScriptedRun([early, right]);
    const engine = { name: 'scripted', start: async () => run };
    const figures = await measureRun(engine, launch('a'), topic);
    assert.equal(figures.wrong, null);
    assert.equal(figures.eventsPerSecond, 100);
    assert.equal(figures.startUpSeconds, 1.5);
    assert.deepEqual([figures.checkpoints, figures.checkpointMebibytes], [2, 3]);
    assert.deepEqual([figures.checkpointP50Ms, figures.checkpointP99Ms], [40, 60]);
    assert.equal(figures.pauseP99Ms, 7);
    assert.ok(figures.rssMebibytes > 0);
    assert.deepEqual(run.calls, ['end']);
  });

  it('begins once a checkpoint has all users, else at half of the events', async () => {
    const rateOf = async (afterFillMs: number | null) => {
      const run = new ScriptedRun([right]);
      // Ten times slower up to half of the events.
      let at = run.startedAt;
      let processed = 0;
      run.progress = async () => {
        at += processed < USERS + EVENTS / 2 ? 10_000 : 1_000;
        processed += 100;
        return { at, processed };
      };
      const filledAt = run.startedAt + 20_000;
      const ended = { durationMs: 40, uploadedBytes: 0 };
      run.checkpoints = async () =>
        afterFillMs === null ? [] : [{ ...ended, triggeredAt: filledAt + afterFillMs }];
      const engine = { name: 'scripted', start: async () => run };
      return (await measureRun(engine, launch('a'), topic)).eventsPerSecond;
    };
    assert.equal(await rateOf(null), 100);
    assert.equal(await rateOf(-1), 100, 'begun in the fill: it may lack users');
    assert.ok((await rateOf(0)) < 25);
  });

  it('compares the rate while a checkpoint is under way with that of the rest', async () => {
    const run = new ScriptedRun([right]);
    const one = { triggeredAt: run.startedAt + 4_000, durationMs: 2_000, uploadedBytes: 0 };
    run.checkpoints = async () => [one];
    for (let at = 0; at < 12_000; at += 10) {
      const isSlow = at >= 4_000 && at < 6_000;
      run.handled.add(run.startedAt + at, run.startedAt + at, isSlow ? 9 : 10);
    }
    const engine = { name: 'scripted', start: async () => run };
    const { dipPercent } = await measureRun(engine, launch('a'), topic);
    assert.ok(dipPercent > 5 && dipPercent < 15, `${dipPercent}`);
  });

  it('measures the fill itself where there is nothing after it', async () => {
    const engine = { name: 'scripted', start: async () => new ScriptedRun([right], 20) };
    const { wrong, eventsPerSecond, fillSeconds } = await measureRun(engine, launch('f'), topic);
    assert.deepEqual([wrong, eventsPerSecond, fillSeconds > 0], [null, 20, true]);
  });

  it('kills after a checkpoint and takes the recovery, without a count of events', async () => {
    const run = new ScriptedRun([{ ...right, events: null }]);
    const written: number[] = [];
    const paced = {
      expected: EXPECTED,
      write: async (_: number, distinct: number) => void written.push(distinct),
    };
    const engine = { name: 'scripted', start: async () => run };
    const figures = await measureRun(engine, launch('r'), paced);
    assert.deepEqual([figures.firstRecordSeconds, figures.caughtUpSeconds], [2.5, 3]);
    assert.deepEqual(run.calls, ['kill', 'end']);
    assert.ok(written.length > 0 && written.every((distinct) => distinct === USERS));
  });

  it('says what the engine says when it fails, and ends it', async () => {
    const run = new ScriptedRun([right]);
    run.progress = async () => {
      throw new Error('the TaskManager is gone');
    };
    const engine = { name: 'scripted', start: async () => run };
    const { wrong, eventsPerSecond } = await measureRun(engine, launch('a'), topic);
    assert.deepEqual([wrong, eventsPerSecond], ['Error: the TaskManager is gone', Number.NaN]);
    assert.deepEqual(run.calls, ['end']);
  });
});
