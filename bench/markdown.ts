/** Tables as Markdown, which a terminal shows as well, and sections of a file between markers. */
import type { Table } from './comparison.ts';

export function markdownTable([head = [], ...body]: Table): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, 3, ...body.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]) =>
    `| ${widths.map((width, column) => (row[column] ?? '').padEnd(width)).join(' | ')} |`;
  const rule = widths.map((width) => '-'.repeat(width));
  return [line(head), line(rule), ...body.map(line)].join('\n');
}

/** `text` with what lies between the markers of `name` replaced; without markers it is appended. */
export function withSection(text: string, name: string, section: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const block = `${open}\n\n${section.trim()}\n\n${close}`;
  const start = text.indexOf(open);
  const end = text.indexOf(close);
  if (start === -1 && end === -1) return `${text.trimEnd()}\n\n${block}\n`;
  if (start === -1 || end < start) throw new Error(`the markers of ${name} are not in order`);
  return text.slice(0, start) + block + text.slice(end + close.length);
}
