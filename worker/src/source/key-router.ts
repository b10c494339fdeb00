/** keyBy: from the bytes of an event to its key group, without a text in between where one can. */
import type { ValueBytes } from '../exchange/frame.ts';
import { keyGroupOf } from '../exchange/key-groups.ts';
import { murmur3Range } from '../exchange/murmur3.ts';
import { KeyScan, MAX_KEY_BYTES, parsedKey } from './key-scan.ts';

export class KeyRouter {
  readonly #field: string;
  readonly #maxParallelism: number;
  readonly #scan: KeyScan;

  constructor(field: string, maxParallelism: number) {
    this.#field = field;
    this.#maxParallelism = maxParallelism;
    this.#scan = new KeyScan(field);
  }

  /** `keyGroupOf` the event's key; -1: it has none that it could be routed by. */
  keyGroup(source: ValueBytes, start: number, end: number): number {
    const scan = this.#scan;
    const answer = scan.find(source, start, end);
    if (answer === 'absent') return -1;
    if (answer === 'found') {
      const { keyStart, keyEnd } = scan;
      if (keyEnd === keyStart || keyEnd - keyStart > MAX_KEY_BYTES) return -1;
      return murmur3Range(source.view, keyStart, keyEnd) % this.#maxParallelism;
    }
    const route = parsedKey(source.bytes.subarray(start, end), this.#field);
    return 'key' in route ? keyGroupOf(route.key, this.#maxParallelism) : -1;
  }
}
