/** Columns as wide as their widest cell. */
import type { Terminal } from './terminal.ts';

const GAP = '  ';

export function printTable(terminal: Terminal, rows: readonly (readonly string[])[]): void {
  for (const line of tableLines(rows)) terminal.print(line);
}

export function tableLines(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    }
  }
  return rows.map((row) => {
    const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
    return cells.join(GAP).trimEnd();
  });
}
