/** What is wrong with a TriggerJob, and the list in which all of it is gathered. */

/** `path` such as `spec.source.kafka.topic`; `message` names that field and the fix. */
export interface Fault {
  path: string;
  message: string;
}

/**
 * Gathers faults. A path with a fault is `broken`: rules that would judge it together with other
 * fields leave it out, so that one mistake is reported once.
 */
export class Faults {
  readonly list: Fault[] = [];
  readonly #broken = new Set<string>();
  readonly #origins = new Map<string, string>();

  /** `problem` continues a sentence that begins with the path: `must be ...: fix`. */
  add(path: string, problem: string): void {
    const shown = this.#origins.get(path) ?? path;
    this.#broken.add(path).add(shown);
    this.list.push({ path: shown, message: `${shown} ${problem}` });
  }

  isBroken(path: string): boolean {
    return this.#broken.has(path);
  }

  breakToo(path: string): void {
    this.#broken.add(path);
  }

  /** Faults of `path` are shown at `origin`, the Flink key that its value came from. */
  setOrigin(path: string, origin: string): void {
    this.#origins.set(path, origin);
  }

  /** How a message should name the field. */
  nameOf(path: string): string {
    return this.#origins.get(path) ?? path;
  }
}
