/** What an expression of PromQL asks for: metrics and the labels that it names. No full parser. */

export interface Asked {
  metric: string;
  /** Of its matchers. */
  labels: string[];
}

const WORDS = new Set(
  'and or unless bool offset by without on ignoring group_left group_right inf nan'.split(' '),
);
const GROUPING = /\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g;

export function metricsOf(expr: string): Asked[] {
  const bare = expr
    .replaceAll(GROUPING, ' ')
    // Texts that a function is given, such as label_replace.
    .replaceAll(/,\s*"[^"]*"/g, ' ')
    .replaceAll(/\[[^\]]*\]/g, ' ');
  const found: Asked[] = [];
  for (const [, name = '', matchers = '', call] of bare.matchAll(
    /(?<![\w:."])([a-zA-Z_:][\w:]*)\s*(\{(?:[^}"]|"[^"]*")*\})?\s*(\()?/g,
  )) {
    if (call !== undefined || WORDS.has(name.toLowerCase())) continue;
    const labels = [...matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map((match) => match[1]!);
    found.push({ metric: name, labels });
  }
  return found;
}

/** Labels of by, on and the like. */
export function groupLabelsOf(expr: string): string[] {
  return [...expr.matchAll(GROUPING)].flatMap((match) =>
    (match[2] ?? '').split(',').flatMap((label) => (label.trim() === '' ? [] : label.trim())),
  );
}

/** Labels that label_replace sets. */
export const madeLabelsOf = (expr: string): string[] =>
  [...expr.matchAll(/label_replace\([^,]*,\s*"(\w+)"/g)].flatMap(([, label]) => label ?? []);

/** Metrics of a scrape, with the labels that they bear. */
export function scraped(text: string): Map<string, Set<string>> {
  const metrics = new Map<string, Set<string>>();
  for (const line of text.split('\n')) {
    const [, name, labels = ''] = /^([a-zA-Z_:][\w:]*)(\{.*\})? \S+$/.exec(line) ?? [];
    if (name === undefined) continue;
    const known = metrics.get(name) ?? new Set();
    for (const [, label = ''] of labels.matchAll(/[{,](\w+)="/g)) known.add(label);
    metrics.set(name, known);
  }
  return metrics;
}
