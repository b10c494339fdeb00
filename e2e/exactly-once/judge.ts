/**
 * Judges a history file again, offline: `node e2e/exactly-once/judge.ts FILE`. Exit 1 = violations.
 */
import { loadHistory } from './history.ts';
import { figureLines, violationLines } from './report.ts';
import { judge } from './verdict.ts';

const file = process.argv[2];
if (file === undefined) {
  console.error('usage: node e2e/exactly-once/judge.ts HISTORY.ndjson.gz');
  process.exitCode = 2;
} else {
  const verdict = judge(await loadHistory(file));
  for (const line of figureLines(verdict)) console.log(line);
  for (const line of violationLines(verdict.violations)) console.log(line);
  console.log(verdict.violations.length === 0 ? 'green' : 'RED');
  process.exitCode = verdict.violations.length === 0 ? 0 : 1;
}
