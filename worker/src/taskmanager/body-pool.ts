/**
 * Memory of bodies, used again. A body of 16 KB lives some milliseconds; as a fresh ArrayBuffer
 * each, 4,000 a second made V8 mark the whole heap every second, which took more CPU than judging
 * the events.
 *
 * Who takes a body gives it back once nothing reads it any more; one that is never given back is
 * only garbage, as are those that a checkpoint captures by reference (P18). To use nothing again
 * while one was written, which takes seconds, made each match of that time a fresh 16 KB: 12
 * collections of the whole heap in 5 s (`bench -- slot-path`).
 */
const CLASS_BYTES = 4 * 1024;
/** Larger bodies are rare, and kept they would be most of what the pool holds. */
const MAX_POOLED_BYTES = 64 * 1024;
export const KEEP_BYTES = 16 * 1024 * 1024;

export class BodyPool {
  /** By size: index n holds n x CLASS_BYTES. */
  readonly #free: ArrayBuffer[][] = [];
  #freeBytes = 0;
  /** Taken and not given back: what comes from elsewhere, or a second time, is left alone. */
  readonly #lent = new WeakSet<ArrayBufferLike>();

  get keptBytes(): number {
    return this.#freeBytes;
  }

  /** Its content is undefined. */
  take(bytes: number): Buffer {
    if (bytes > MAX_POOLED_BYTES) return Buffer.allocUnsafeSlow(bytes);
    const sizeClass = Math.max(1, Math.ceil(bytes / CLASS_BYTES));
    let memory = this.#free[sizeClass]?.pop();
    if (memory === undefined) memory = Buffer.allocUnsafeSlow(sizeClass * CLASS_BYTES).buffer;
    else this.#freeBytes -= memory.byteLength;
    this.#lent.add(memory);
    return Buffer.from(memory, 0, bytes);
  }

  /** A checkpoint refers to the body from now on: its memory is never used again. */
  captured({ buffer }: Buffer): void {
    this.#lent.delete(buffer);
  }

  /** Nothing reads the body any more, a checkpoint apart that has captured it. */
  give({ buffer }: Buffer): void {
    if (!this.#lent.delete(buffer)) return;
    if (this.#freeBytes + buffer.byteLength > KEEP_BYTES) return;
    this.#freeBytes += buffer.byteLength;
    const sizeClass = buffer.byteLength / CLASS_BYTES;
    this.#free[sizeClass] ??= [];
    this.#free[sizeClass].push(buffer as ArrayBuffer);
  }
}
