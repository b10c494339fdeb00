/** A trace of the filter as lines of text, the deciding clause marked. Pure. */
import type { Explanation, TraceNode } from './api-types.ts';

export interface TraceLine {
  depth: number;
  text: string;
  value: string;
  tone: 'true' | 'false' | 'plain';
  deciding: boolean;
}

const MAX_LINES = 400;
const MAX_VALUE_CHARACTERS = 160;

export function traceLines({ trace, deciding }: Explanation): TraceLine[] {
  const lines: TraceLine[] = [];
  const visit = (node: TraceNode, depth: number): void => {
    if (lines.length >= MAX_LINES) return;
    const at = deciding !== null && node.line === deciding.line && node.column === deciding.column;
    lines.push({
      depth,
      text: node.text,
      value: valueText(node.value),
      tone: node.value === true ? 'true' : node.value === false ? 'false' : 'plain',
      deciding: at && node.text === deciding.text,
    });
    for (const child of node.children) visit(child, depth + 1);
    if (node.omitted !== undefined) {
      const text = `${node.omitted} rounds are left out`;
      lines.push({ depth: depth + 1, text, value: '', tone: 'plain', deciding: false });
    }
  };
  if (trace !== null) visit(trace, 0);
  return lines;
}

export function valueText(value: unknown): string {
  const text = value === undefined ? 'undefined' : JSON.stringify(value);
  if (text.length <= MAX_VALUE_CHARACTERS) return text;
  return `${text.slice(0, MAX_VALUE_CHARACTERS)}...`;
}

export type ParsedJson = { value: object } | { fault: string };

/** An event is a JSON object; says in words what is wrong with another text. */
export function parseObject(text: string, name: string): ParsedJson {
  if (text.trim() === '') return { fault: `${name} is empty: paste a JSON object` };
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? { value } : { fault: `${name} must be a JSON object, like {"user_id": ...}` };
  } catch (error) {
    return { fault: `${name} is no JSON: ${error instanceof Error ? error.message : error}` };
  }
}
