import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Terminal } from './terminal.ts';

function recorded(options: { isTTY?: boolean; columns?: number; rows?: number }) {
  const written: string[] = [];
  return {
    written,
    stream: { ...options, write: (text: string | Uint8Array) => written.push(String(text)) > 0 },
  };
}

describe('terminal', () => {
  it('paints on a TTY only, and never with NO_COLOR', () => {
    const tty = recorded({ isTTY: true }).stream;
    const pipe = recorded({}).stream;
    assert.equal(new Terminal(tty, tty, {}).paint('red', 'x'), '\u001b[31mx\u001b[0m');
    assert.equal(new Terminal(tty, tty, { NO_COLOR: '1' }).paint('red', 'x'), 'x');
    assert.equal(new Terminal(tty, tty, { TERM: 'dumb' }).paint('red', 'x'), 'x');
    assert.equal(new Terminal(pipe, pipe, {}).paint('red', 'x'), 'x');
  });

  it('draws no more live lines than can be erased', () => {
    const { written, stream } = recorded({ isTTY: true, rows: 3 });
    const terminal = new Terminal(stream, stream, {});
    terminal.live(['1', '2', '3', '4']);
    terminal.live([]);
    assert.deepEqual(written, ['1\n', '2\n', '\u001b[2A\u001b[0J']);
  });

  it('keeps live lines below what is printed', () => {
    const { written, stream } = recorded({ isTTY: true, columns: 10 });
    const terminal = new Terminal(stream, stream, {});
    terminal.live(['one', 'longer than ten']);
    terminal.print('stays');
    terminal.live([]);
    const erase = '\u001b[2A\u001b[0J';
    assert.deepEqual(written, [
      'one\n',
      'longer th\n',
      erase,
      'stays\n',
      'one\n',
      'longer th\n',
      erase,
    ]);
  });
});
