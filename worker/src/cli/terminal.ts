/**
 * What the commands write to: lines that stay, and a few live lines below them that are redrawn in
 * place. Without a TTY nothing is ever redrawn. Colour only on a TTY and never with NO_COLOR set.
 */
import type { WriteStream } from 'node:tty';
import { stripVTControlCharacters } from 'node:util';

type Output = Pick<WriteStream, 'write'> & { isTTY?: boolean; columns?: number; rows?: number };

const COLORS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
const DEFAULT_COLUMNS = 100;
const DEFAULT_ROWS = 24;

export class Terminal {
  readonly #out: Output;
  readonly #err: Output;
  readonly #environment: Record<string, string | undefined>;
  readonly #color: boolean;
  #live: string[] = [];

  constructor(out: Output, err: Output, environment: Record<string, string | undefined>) {
    this.#out = out;
    this.#err = err;
    this.#environment = environment;
    const refused = (environment['NO_COLOR'] ?? '') !== '' || environment['TERM'] === 'dumb';
    this.#color = out.isTTY === true && !refused;
  }

  /** What is drawn goes to standard error, because standard output is the command's result. */
  forErrors(): Terminal {
    return new Terminal(this.#err, this.#err, this.#environment);
  }

  get redraws(): boolean {
    return this.#out.isTTY === true;
  }

  get columns(): number {
    // 0 where a pseudo-terminal was never told its size.
    return this.#out.columns || DEFAULT_COLUMNS;
  }

  paint(color: keyof typeof COLORS, text: string): string {
    return this.#color ? `\u001b[${COLORS[color]}m${text}\u001b[0m` : text;
  }

  print(text: string): void {
    this.#above(() => this.#out.write(`${text}\n`));
  }

  error(text: string): void {
    this.#above(() => this.#err.write(`${text}\n`));
  }

  /** Replaces the live lines; `[]` removes them. Only for a terminal that redraws. */
  live(lines: readonly string[]): void {
    this.#erase();
    // Above the screen's top nothing can be erased. 0 rows: it was never told its size.
    const rows = this.#out.rows || DEFAULT_ROWS;
    this.#live = lines.slice(0, rows - 1).map((line) => this.#cut(line));
    for (const line of this.#live) this.#out.write(`${line}\n`);
  }

  #above(write: () => void): void {
    const kept = this.#live;
    this.#erase();
    write();
    this.#live = kept;
    for (const line of kept) this.#out.write(`${line}\n`);
  }

  #erase(): void {
    if (this.#live.length > 0) this.#out.write(`\u001b[${this.#live.length}A\u001b[0J`);
    this.#live = [];
  }

  /** A wrapped line would take two rows, and the next redraw would erase too little. */
  #cut(line: string): string {
    const plain = stripVTControlCharacters(line);
    return plain.length < this.columns ? line : plain.slice(0, this.columns - 1);
  }
}
