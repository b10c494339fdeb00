/**
 * One run of a delta (P12), packed: body of a segment without the header, because a run is spooled
 * before the checkpoint is known that its interval ends with. Compressed as it is spooled, so that
 * sealing it is reading it back, and the disk sees a fraction of the rows' bytes.
 */
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import {
  type FinishedSegment,
  finishSegment,
  MemoryBody,
  type StoredBody,
} from '../checkpoint/segment.ts';
import { type BodyFacts, SegmentBody, type SegmentSink } from '../checkpoint/segment-body.ts';
import {
  BLOCK_RAW_BYTES,
  HEADER_BYTES,
  ROW_HEADER_BYTES,
  type SegmentHeader,
  TURN_BYTES,
} from '../checkpoint/segment-format.ts';
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { invariant } from '../runtime/errors.ts';
import type { RowSlabs } from './row-slabs.ts';

/** Bytes gathered for one write to a spool file. */
const WRITE_BYTES = TURN_BYTES;

export interface PackedRun {
  /** Memory held; 0 for a run on disk. */
  readonly heldBytes: number;
  /** The same bytes each time. */
  seal(header: SegmentHeader): Promise<FinishedSegment>;
  /** Its segment is stored. */
  discard(): Promise<void>;
}

/** Told the bytes of rows packed since its last call, it resolves when the next ones may be. */
export type RunPace = (bytes: number) => Promise<void>;

/** Packs the rows, sorted by key group and key; `file` null: into memory. */
export async function packRun(
  rows: RowSlabs,
  range: KeyGroupRange,
  file: string | null,
  pace: RunPace,
): Promise<PackedRun> {
  if (file === null) {
    const body = new MemoryBody();
    const facts = await pack(rows, range, body, pace);
    return {
      heldBytes: body.trim(),
      seal: (header) => finishSegment(header, facts, body),
      discard: async () => {},
    };
  }
  await mkdir(dirname(file), { recursive: true });
  const spool = new SpoolWriter(await open(file, 'w'));
  try {
    const facts = await pack(rows, range, spool, pace);
    await spool.end();
    return spooledRun(file, facts, spool.crc);
  } finally {
    await spool.close();
  }
}

async function pack(
  rows: RowSlabs,
  range: KeyGroupRange,
  sink: SegmentSink,
  pace: RunPace,
): Promise<BodyFacts> {
  const body = new SegmentBody({ kind: 'delta', range }, sink);
  let packed = 0;
  for (const keyGroup of rows.groups()) {
    await body.enter(keyGroup);
    for (const position of await rows.sorted(keyGroup)) {
      // By bytes, not by block: key groups of few rows have small ones.
      if (packed >= BLOCK_RAW_BYTES) {
        await pace(packed);
        packed = 0;
      }
      const slab = rows.slabOf(position);
      const from = rows.startOf(position);
      const end = rows.endOf(position);
      packed += end - from;
      if (end - from > BLOCK_RAW_BYTES) {
        await body.addLarge(piecesOf(slab, from, end), end - from);
        continue;
      }
      const keyAt = from + ROW_HEADER_BYTES;
      const keyBytes = slab.readUInt16BE(from);
      let at = body.reserve(end - from, slab, keyAt, keyBytes);
      if (at < 0) {
        await body.flush();
        at = body.reserve(end - from, slab, keyAt, keyBytes);
      }
      slab.copy(body.block, at, from, end);
    }
  }
  return body.finish();
}

function piecesOf(slab: Buffer, from: number, end: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = from; at < end; at += TURN_BYTES) {
    pieces.push(slab.subarray(at, Math.min(at + TURN_BYTES, end)));
  }
  return pieces;
}

class SpoolWriter implements SegmentSink {
  readonly #handle: FileHandle;
  readonly #gathered = Buffer.allocUnsafeSlow(WRITE_BYTES);
  #used = 0;
  crc = 0;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(piece: Buffer): Promise<void> {
    for (let at = 0; at < piece.length; ) {
      if (this.#used === WRITE_BYTES) await this.end();
      const copied = piece.copy(this.#gathered, this.#used, at);
      this.#used += copied;
      at += copied;
    }
  }

  /** Writes what was gathered. */
  async end(): Promise<void> {
    const piece = this.#gathered.subarray(0, this.#used);
    this.crc = crc32(piece, this.crc);
    for (let at = 0; at < piece.length; ) {
      at += (await this.#handle.write(piece, at, piece.length - at)).bytesWritten;
    }
    this.#used = 0;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** `crc` of the whole body: damage on this disk must not become a checkpoint that can't be read. */
function spooledRun(file: string, facts: BodyFacts, crc: number): PackedRun {
  return {
    heldBytes: 0,
    async seal(header) {
      const handle = await open(file, 'r');
      try {
        const body = new SpoolReader(handle, file);
        const segment = await finishSegment(header, facts, body);
        const end = facts.bytes - HEADER_BYTES;
        invariant(body.crc === crc, `spool file ${file}: crc32 of ${end} bytes differs`);
        return segment;
      } finally {
        await handle.close();
      }
    },
    discard: () => rm(file, { force: true }),
  };
}

/** Read once, from its beginning. */
class SpoolReader implements StoredBody {
  readonly #handle: FileHandle;
  readonly #file: string;
  crc = 0;

  constructor(handle: FileHandle, file: string) {
    this.#handle = handle;
    this.#file = file;
  }

  async read(target: Buffer, position: number): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const left = target.length - at;
      const { bytesRead } = await this.#handle.read(target, at, left, position + at);
      invariant(bytesRead > 0, `spool file ${this.#file} ends at ${position + at}`);
      at += bytesRead;
    }
    this.crc = crc32(target, this.crc);
  }
}
