/**
 * zstd for the blocks of segments, in the calling thread, with one context for all of them.
 * `zstdDecompressSync` makes a stream and a context per call: 26 us of CPU for a block of 1.5 KB
 * whose work is 3, and the chain of a task has thousands of such blocks. Node has no public way to
 * keep a context, so this calls the native handle below its stream; where that looks different, the
 * public function is called.
 */
import { constants, createZstdDecompress, zstdDecompressSync } from 'node:zlib';

/** Beyond the raw bytes, so that a frame that holds more is told from one that holds them all. */
const SLACK_BYTES = 64;

/** The part of Node's native zstd object that is used: lib/zlib.js, `processChunkSync`. */
interface NativeHandle {
  writeSync(
    flush: number,
    input: Buffer,
    inputAt: number,
    inputBytes: number,
    output: Buffer,
    outputAt: number,
    outputBytes: number,
  ): void;
  onerror(message: string): void;
}

interface Context {
  handle: NativeHandle;
  /** Room left in the output, bytes left of the input. */
  left: Uint32Array;
  fault: string | null;
}

let kept: Context | null = null;

/**
 * The frame's content, in `target` if it is given and large enough. Throws for what is no whole
 * frame, or one of more than `rawBytes`.
 */
export function decompressBlock(stored: Buffer, rawBytes: number, target?: Buffer): Buffer {
  kept ??= openContext();
  if (kept === null) return zstdDecompressSync(stored, { maxOutputLength: rawBytes });
  const context = kept;
  const room = rawBytes + SLACK_BYTES;
  const out = target !== undefined && target.length >= room ? target : Buffer.allocUnsafeSlow(room);
  context.handle.writeSync(constants.ZSTD_e_continue, stored, 0, stored.length, out, 0, room);
  const bytes = room - context.left[0]!;
  if (context.fault === null && context.left[1] === 0 && bytes === rawBytes) {
    return out.subarray(0, bytes);
  }
  // It stands within a frame, or nowhere: the next block gets a new one.
  kept = null;
  throw new Error(context.fault ?? `${bytes} of ${rawBytes} raw bytes`);
}

function openContext(): Context | null {
  const stream = createZstdDecompress() as unknown as {
    _handle?: Partial<NativeHandle>;
    _writeState?: unknown;
  };
  const { _handle: handle, _writeState: left } = stream;
  if (typeof handle?.writeSync !== 'function' || !(left instanceof Uint32Array)) return null;
  const context: Context = { handle: handle as NativeHandle, left, fault: null };
  context.handle.onerror = (message) => {
    context.fault = message;
  };
  return context;
}
