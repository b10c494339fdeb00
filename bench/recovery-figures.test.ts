/** The figures of a made-up run: a pause of a survivor is found, and so is a late first event. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Act, checkpointFigures, killFigures, rescaleFigures } from './recovery-figures.ts';
import { readTimes, SlotTimes, type ThreadTimes } from './slot-times.ts';

const AT = 100_000;
const KILL: Act = { kind: 'kill', at: AT, pid: 1, lost: 1, tookMs: 0 };

/** An event each 10 ms in [from, to), but none in (pause, pause + pauseMs). */
function thread(pid: number, from: number, to: number, pause = 0, pauseMs = 0): ThreadTimes {
  const at: number[] = [];
  for (let time = from; time < to; time += 10) {
    if (time <= pause || time >= pause + pauseMs) at.push(time);
  }
  return { pid, at: Float64Array.from(at), latencyMs: Float64Array.from(at, () => 5) };
}

const figure = (figures: readonly { name: string; value: number }[], name: string) =>
  figures.find((one) => one.name === name)?.value;

describe('recovery figures', () => {
  it('tell the pause of a survivor from that of the killed and from calm', () => {
    const threads = [
      thread(1, AT - 10_000, AT),
      thread(2, AT - 10_000, AT + 10_000, AT + 1_000, 300),
      thread(3, AT + 1_700, AT + 10_000),
    ];
    const figures = killFigures([KILL], threads, 5_000);
    assert.equal(figure(figures, 'survivors: slots seen'), 1);
    assert.equal(figure(figures, 'survivors: longest pause of a slot, max'), 300);
    assert.equal(figure(figures, '  as long before, max'), 10);
    assert.equal(figure(figures, '  added at p95'), 290);
    assert.equal(figure(figures, 'subtasks that began anew'), 1);
    assert.equal(figure(figures, 'first event of a lost key group, max'), 1_700);
  });

  it('count of a longer pause what lies in the window', () => {
    const figures = killFigures([KILL], [thread(2, AT - 10_000, AT + 20_000, AT, 9_000)], 5_000);
    assert.equal(figure(figures, 'survivors: longest pause of a slot, max'), 5_000);
  });

  it('take the pause of a rescale over all threads', () => {
    const threads = [thread(1, AT - 1_000, AT + 200), thread(1, AT + 1_190, AT + 9_000)];
    const act: Act = { ...KILL, kind: 'rescale', tookMs: 2_000 };
    assert.equal(figure(rescaleFigures([act], threads, 5_000), 'pause of a rescale, max'), 1_000);
  });

  it('count failed checkpoints apart', () => {
    const one = { id: 1, trigger_timestamp: 0, checkpointed_size: 0, state_size: 0 };
    const figures = checkpointFigures([
      { ...one, status: 'COMPLETED', end_to_end_duration: 40 },
      { ...one, status: 'FAILED', end_to_end_duration: 9_000 },
    ]);
    assert.equal(figure(figures, 'of them failed'), 1);
    assert.equal(figure(figures, 'checkpoint duration max'), 40);
  });

  it('reads back what a slot wrote', () => {
    const folder = mkdtempSync(join(tmpdir(), 'triggerjob-times-'));
    try {
      const times = SlotTimes.open(folder, 77, 3);
      times.add(Date.now() - 1_000);
      times.close();
      const [read] = readTimes(folder);
      assert.equal(read?.pid, 77);
      assert.equal(read.at.length, 1);
      assert.ok(read.latencyMs[0]! >= 999 && read.latencyMs[0]! < 60_000);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
