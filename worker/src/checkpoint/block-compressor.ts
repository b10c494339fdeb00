/**
 * zstd for the blocks of one segment, in libuv's threads. A context made anew for every block costs
 * as much as compressing 30 KiB, half of it on the calling thread; so beyond a small segment a few
 * streams are kept, each of which ends a whole frame with every write.
 */
import { promisify } from 'node:util';
import { constants, createZstdCompress, zstdCompress } from 'node:zlib';
import { BLOCK_RAW_BYTES } from './segment-format.ts';

/** Blocks under way at once: two keep a core busy while the other one is waited for. */
export const PARALLEL_BLOCKS = 2;
/** Up to here contexts are made anew: two streams would cost a small segment more. */
const ONE_SHOT_BYTES = 512 * 1024;
const OUTPUT_BYTES = 256 * 1024;

export const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

type Stream = ReturnType<typeof createZstdCompress>;

const compressOnce = promisify(zstdCompress);

export class BlockCompressor {
  readonly #streams: Stream[] = [];
  #next = 0;
  #bytes = 0;

  /**
   * One frame, in pieces. At most PARALLEL_BLOCKS calls at once, awaited in their order; `raw`, of
   * at most BLOCK_RAW_BYTES, must stay unchanged until then.
   */
  async compress(raw: Buffer): Promise<readonly Buffer[]> {
    this.#bytes += raw.length;
    // One round trip per block: the output buffer holds whatever comes out.
    if (this.#bytes <= ONE_SHOT_BYTES) {
      return [await compressOnce(raw, { ...ZSTD, chunkSize: BLOCK_RAW_BYTES + 1024 })];
    }
    return frameOf(this.#stream(), raw);
  }

  close(): void {
    for (const stream of this.#streams) stream.destroy();
    this.#streams.length = 0;
  }

  #stream(): Stream {
    const number = this.#next++ % PARALLEL_BLOCKS;
    const known = this.#streams[number];
    if (known !== undefined) return known;
    const opened = openStream();
    this.#streams.push(opened);
    return opened;
  }
}

function openStream(): Stream {
  const stream = createZstdCompress({
    ...ZSTD,
    flush: constants.ZSTD_e_end,
    chunkSize: OUTPUT_BYTES,
    // Room for more than a frame of any block: a full stream would wait for a read that comes
    // after it.
    readableHighWaterMark: 4 * BLOCK_RAW_BYTES,
  } as Parameters<typeof createZstdCompress>[0]);
  // The write's callback reports it; without a listener it would end the process.
  stream.on('error', () => {});
  return stream;
}

function frameOf(stream: Stream, raw: Buffer): Promise<readonly Buffer[]> {
  return new Promise((resolve, reject) => {
    stream.write(raw, (fault) => {
      if (fault) {
        reject(fault);
        return;
      }
      const pieces: Buffer[] = [];
      for (let piece = stream.read(); piece !== null; piece = stream.read()) pieces.push(piece);
      resolve(pieces);
    });
  });
}
