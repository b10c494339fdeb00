import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EPOCH_MS, VirtualTime } from '../rehearsal/virtual-time.ts';
import { Progress } from './progress.ts';
import { Terminal } from './terminal.ts';

function setUp(isTTY: boolean) {
  const time = new VirtualTime();
  const env = {
    now: () => time.nowMs,
    monotonic: () => time.nowMs - EPOCH_MS,
    random: () => 0,
    id: () => '',
    timer: (ms: number, fn: () => void) => time.after(ms, fn),
  };
  const written: string[] = [];
  const stream = {
    isTTY,
    columns: 100,
    write: (text: string | Uint8Array) => written.push(`${text}`) > 0,
  };
  const terminal = new Terminal(stream, stream, { NO_COLOR: '1' });
  const progress = new Progress({ env, terminal, what: 'verifying' });
  const advance = async (ms: number) => {
    const end = time.nowMs + ms;
    time.after(ms, () => undefined);
    await time.run(() => time.nowMs >= end, ms);
  };
  return { progress, written, advance };
}

describe('progress', () => {
  it('says nothing of what is over within two seconds', async () => {
    for (const isTTY of [true, false]) {
      const { progress, written, advance } = setUp(isTTY);
      progress.update(0.5, '1 of 2');
      await advance(1_900);
      progress.end();
      await advance(60_000);
      assert.deepEqual(written, isTTY ? [] : []);
    }
  });

  it('draws a bar on a terminal, and takes it away', async () => {
    const { progress, written, advance } = setUp(true);
    progress.update(0.5, '1 of 2');
    await advance(2_000);
    assert.deepEqual(written, [
      `verifying [${'#'.repeat(12)}${'-'.repeat(12)}] 50%, 1 of 2, 2 s\n`,
    ]);
    progress.update(null, '');
    await advance(250);
    assert.match(written.at(-1)!, /^verifying \[-*####-*\], 2 s\n$/);
    progress.end();
    const count = written.length;
    assert.equal(written.at(-1), '\u001b[1A\u001b[0J');
    await advance(5_000);
    assert.equal(written.length, count);
  });

  it('prints plain lines, seldom, without one', async () => {
    const { progress, written, advance } = setUp(false);
    progress.update(0.25, '1 of 4');
    await advance(11_000);
    assert.deepEqual(written, ['verifying 25%, 1 of 4, 5 s\n', 'verifying 25%, 1 of 4, 10 s\n']);
    progress.end();
  });
});
