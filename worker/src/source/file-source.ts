/**
 * NDJSON files: one split each, the offset of a record is the byte position of its line. A file is
 * read up to the size it had when it was opened and is then finished: one that grows is not
 * followed.
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { FileSourcePlan } from '../plan/job-plan.ts';
import { type Env, sleep } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { SourceCounters } from './counters.ts';
import { RecordColumns } from './record-columns.ts';
import type { SourceBatch, SplitPosition, SplitReader } from './source.ts';

const CHUNK_BYTES = 256 * 1024;
/**
 * A line beyond maxRecordBytes is kept up to this many times that, for the dead letter, then cut.
 */
export const KEPT_OVERSIZE = 4;

const LF = 0x0a;
const CR = 0x0d;

interface OpenFile {
  index: number;
  path: string;
  handle: FileHandle;
  size: number;
  /** Where the next read begins, and where the line that `rest` begins started. */
  readAt: number;
  lineStart: number;
  /** What was read of the unfinished line, as far as it is kept. */
  rest: Buffer;
}

/** Reads one file after the other, so one handle is open and one chunk is held at a time. */
export class FileReader implements SplitReader {
  readonly #env: Env;
  readonly #keptBytes: number;
  readonly #counters: SourceCounters;
  readonly #waiting: SplitPosition[] = [];
  readonly #stop = new AbortController();
  #file: OpenFile | null = null;

  constructor(plan: FileSourcePlan, env: Env, counters: SourceCounters) {
    this.#env = env;
    this.#keptBytes = plan.maxRecordBytes * KEPT_OVERSIZE;
    this.#counters = counters;
  }

  assign(positions: readonly SplitPosition[]): void {
    this.#waiting.push(...positions);
  }

  async poll(maxWaitMs: number): Promise<SourceBatch | null> {
    this.#file ??= await this.#openNext();
    if (this.#file === null || this.#stop.signal.aborted) {
      await sleep(this.#env, maxWaitMs, this.#stop.signal).catch(() => {});
      return null;
    }
    const file = this.#file;
    const records = await readLines(file, this.#keptBytes);
    const finished = file.readAt >= file.size;
    if (finished) {
      this.#file = null;
      await file.handle.close();
    }
    this.#counters.records += records.count;
    const { index, lineStart, size } = file;
    return { splitIndex: index, records, nextOffset: lineStart, endOffset: size, finished };
  }

  async close(): Promise<void> {
    this.#stop.abort(new TriggerJobError('SOURCE_CLOSED', 'the source is closed'));
    await this.#file?.handle.close();
    this.#file = null;
  }

  async #openNext(): Promise<OpenFile | null> {
    const position = this.#waiting.shift();
    if (position === undefined) return null;
    const { split, offset } = position;
    const path = split.id;
    const handle = await open(path).catch((cause: unknown) => {
      throw unreadable(path, cause);
    });
    const { size } = await handle.stat();
    if (offset > size) {
      await handle.close();
      throw new TriggerJobError(
        'SOURCE_OFFSET_OUT_OF_RANGE',
        `split ${path}: offsets [${size},${offset}) are lost: the file was longer when it ` +
          'was read; put the old file back, or start without the old state',
      );
    }
    const readAt = await nextLineStart(handle, offset, size);
    const rest = Buffer.alloc(0);
    return { index: split.index, path, handle, size, readAt, lineStart: readAt, rest };
  }
}

/**
 * Where the first line at or after `offset` begins. A position in the middle of a batch is the last
 * record's offset + 1, inside its line: going on there would read the rest of it as a record.
 */
async function nextLineStart(handle: FileHandle, offset: number, size: number): Promise<number> {
  if (offset === 0) return 0;
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let at = offset - 1; at < size; at += CHUNK_BYTES) {
    const { bytesRead } = await handle.read(chunk, 0, CHUNK_BYTES, at);
    const end = lineFeed(chunk, 0, bytesRead);
    if (end >= 0) return at + end + 1;
    if (bytesRead === 0) break;
  }
  return size;
}

export function unreadable(path: string, cause: unknown): TriggerJobError {
  return new TriggerJobError(
    'SOURCE_FILE_UNREADABLE',
    `spec.source.file: ${path} cannot be read; correct the path or its permissions`,
    { cause },
  );
}

/**
 * The lines that end in the next chunk; at the end of the file also the rest. What is left of the
 * last line lies before the chunk in one buffer, so that each line is one piece. Blank lines are
 * passed over; of a line only `keptBytes` are kept: what is longer is a dead letter anyway.
 */
async function readLines(file: OpenFile, keptBytes: number): Promise<RecordColumns> {
  const { rest } = file;
  // As much as is kept: a long line is then copied a few times, not once per chunk.
  const wanted = Math.min(Math.max(CHUNK_BYTES, rest.length), file.size - file.readAt);
  const bytes = Buffer.allocUnsafeSlow(rest.length + wanted);
  rest.copy(bytes);
  const { bytesRead } = await file.handle.read(bytes, rest.length, wanted, file.readAt);
  const records = new RecordColumns(bytes, 0);
  const end = rest.length + bytesRead;
  // A cut line has lost bytes: places in the buffer are places in the file only from the chunk on.
  const chunkAt = file.readAt - rest.length;
  let start = 0;
  for (let from = rest.length; ; ) {
    const feed = lineFeed(bytes, from, end);
    if (feed < 0) break;
    addLine(records, file.lineStart, start, Math.min(feed, start + keptBytes));
    start = feed + 1;
    from = start;
    file.lineStart = chunkAt + start;
  }
  const kept = Math.min(end, start + keptBytes);
  file.readAt += bytesRead;
  // A file cut while it is read ends where it ends now.
  if (bytesRead < wanted) file.size = file.readAt;
  if (file.readAt < file.size) {
    file.rest = bytes.subarray(start, kept);
  } else {
    addLine(records, file.lineStart, start, kept);
    file.rest = Buffer.alloc(0);
    file.lineStart = file.size;
  }
  return records;
}

function lineFeed(chunk: Buffer, from: number, end: number): number {
  const at = chunk.indexOf(LF, from);
  return at < end ? at : -1;
}

function addLine(records: RecordColumns, offset: number, start: number, end: number): void {
  const valueEnd = end > start && records.bytes[end - 1] === CR ? end - 1 : end;
  if (valueEnd > start) records.add(offset, -1, start, valueEnd);
}
