/**
 * The dead letter as one NDJSON file. Several subtasks append to the same file: each batch is one
 * write in append mode, which a local file system does not interleave with another.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TriggerJobError } from '../runtime/errors.ts';
import type { DeadLetter } from './action.ts';
import { deadLetterLines } from './dead-letter-line.ts';
import type { BatchSink } from './group-writer.ts';

const LINE_END = 0x0a;
const NEW_LINE = Buffer.from('\n');

export class FileSink implements BatchSink {
  readonly target: string;
  readonly #path: string;
  #file: FileHandle | null = null;
  /** The file does not end with a line end: a crash or a short write tore its last line. */
  #torn = false;
  #closed = false;

  constructor(path: string) {
    this.target = path;
    this.#path = path;
  }

  prepare(batch: readonly DeadLetter[]): () => Promise<void> {
    const lines = deadLetterLines(batch);
    return () => this.#append(lines);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#drop();
  }

  async #append(lines: Buffer): Promise<void> {
    try {
      this.#file ??= await this.#open();
      // Ends the torn line, so that only it is unreadable and not the record that follows.
      const content = this.#torn ? Buffer.concat([NEW_LINE, lines]) : lines;
      this.#torn = true;
      const { bytesWritten } = await this.#file.write(content);
      if (bytesWritten !== content.length) {
        throw new TriggerJobError('DEAD_LETTER_SHORT', `${this.#path}: the disk took only a part`);
      }
      this.#torn = false;
      await this.#file.datasync();
    } catch (thrown) {
      // After a failed fsync the kernel may have dropped the pages and report success next time:
      // only a new handle and a second write of the batch make the acknowledgement true.
      await this.#drop();
      throw thrown;
    }
  }

  async #open(): Promise<FileHandle> {
    const folder = dirname(this.#path);
    await mkdir(folder, { recursive: true });
    const file = await open(this.#path, 'a+');
    try {
      const { size } = await file.stat();
      if (size > 0) {
        const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
        this.#torn = buffer[0] !== LINE_END;
      }
      // Makes a new file's name survive a crash, not only its content.
      const directory = await open(folder, 'r');
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
      if (this.#closed) throw new TriggerJobError('DEAD_LETTER_CLOSED', 'the file was closed');
      return file;
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }

  async #drop(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close().catch(() => {});
  }
}
