/**
 * Memory of bodies, used again. A body of 16 KB lives some milliseconds; as a fresh ArrayBuffer
 * each, 4,000 a second made V8 mark the whole heap every second, which took more CPU than judging
 * the events.
 *
 * Who takes a body gives it back once nothing reads it any more; one that is never given back is
 * only garbage. A checkpoint captures bodies by reference (P18), so while one is being written
 * nothing is used again.
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
  #holds = 0;

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

  /** Nothing reads the body any more, a capture under `hold` apart. */
  give({ buffer }: Buffer): void {
    if (!this.#lent.delete(buffer) || this.#holds > 0) return;
    if (this.#freeBytes + buffer.byteLength > KEEP_BYTES) return;
    this.#freeBytes += buffer.byteLength;
    const sizeClass = buffer.byteLength / CLASS_BYTES;
    this.#free[sizeClass] ??= [];
    this.#free[sizeClass].push(buffer as ArrayBuffer);
  }

  /** Until the returned function is called, what is given back is not used again. */
  hold(): () => void {
    this.#holds++;
    let held = true;
    return () => {
      if (held) this.#holds--;
      held = false;
    };
  }
}
