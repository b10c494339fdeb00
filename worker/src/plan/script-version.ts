/** How a version of the filter script is named: by what it is, the same in every process. */
import { createHash } from 'node:crypto';
import type { FilterLanguage } from './job-plan.ts';

const DIGITS = 12;

export function scriptVersion(language: FilterLanguage, script: string): string {
  return createHash('sha256').update(`${language}\0${script}`).digest('hex').slice(0, DIGITS);
}
