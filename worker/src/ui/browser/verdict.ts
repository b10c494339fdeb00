/** What the filter said, in a colour. */
import type { View } from './html.ts';
import { badge, type Tone } from './parts.ts';

const TONES: Readonly<Record<string, Tone>> = { match: 'ok', 'no-match': 'plain', error: 'bad' };

export function verdictBadge(verdict: string): View {
  return badge(verdict.replace('-', ' '), TONES[verdict] ?? 'plain');
}
