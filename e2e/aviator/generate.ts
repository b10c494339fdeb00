/**
 * Asks the real AviatorScript for the value of every case and writes the conformance corpus of our
 * engine: `npx node e2e/aviator/generate.ts`. Needs Java 17 and Maven (Maven Central on the first
 * run);
 * jars and classes stay in a cache folder outside of the project.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../testbed/cache.ts';
import { DIFFERENCES } from './cases/differences.ts';
import { ENVIRONMENT } from './cases/env.ts';
import { OPERATOR_CASES } from './cases/operators.ts';
import { SCALAR_FUNCTION_CASES } from './cases/scalar-functions.ts';
import { SEQUENCE_FUNCTION_CASES } from './cases/sequence-functions.ts';
import { STATEMENT_CASES } from './cases/statements.ts';

const HERE = import.meta.dirname;
const CORPUS = join(HERE, '../../worker/src/filter/testdata/aviator-corpus.json');
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

function compileJava(cache: string): string {
  const libraries = join(cache, 'lib');
  const classes = join(cache, 'classes');
  mkdirSync(classes, { recursive: true });
  const pom = join(HERE, 'pom.xml');
  const goal = ['dependency:copy-dependencies', `-DoutputDirectory=${libraries}`];
  execFileSync('mvn', ['-q', '-B', '-f', pom, ...goal], { stdio: 'inherit' });
  const source = join(HERE, 'src/AviatorCorpus.java');
  execFileSync('javac', ['-cp', join(libraries, '*'), '-d', classes, source], { stdio: 'inherit' });
  return `${join(libraries, '*')}:${classes}`;
}

function readCases(): string[] {
  const lines = [OPERATOR_CASES, STATEMENT_CASES, SCALAR_FUNCTION_CASES, SEQUENCE_FUNCTION_CASES]
    .join('\n')
    .split('\n');
  const scripts = lines.filter((line) => line !== '').map((line) => line.replaceAll('\\n', '\n'));
  return [...new Set(scripts)];
}

function main(): void {
  const classPath = compileJava(join(cacheFolder(), 'aviator'));
  const scripts = readCases();
  const input = scripts.map((expr) => JSON.stringify({ expr, env: ENVIRONMENT })).join('\n');
  const output = execFileSync('java', ['-cp', classPath, 'AviatorCorpus'], {
    input: `${input}\n`,
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT_BYTES,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const answers = output.trim().split('\n');
  if (answers.length !== scripts.length)
    throw new Error(`${answers.length} answers, not ${scripts.length}`);
  const cases = scripts.map((expr, i) => {
    const differs = DIFFERENCES[expr];
    const answer = JSON.parse(answers[i] as string) as object;
    return JSON.stringify({ expr, ...answer, ...(differs === undefined ? {} : { differs }) });
  });
  const stale = Object.keys(DIFFERENCES).filter((expr) => !scripts.includes(expr));
  if (stale.length > 0) throw new Error(`differences without a case: ${stale.join(' | ')}`);
  const head = `"aviator": "5.4.3",\n"env": ${JSON.stringify(ENVIRONMENT)},`;
  writeFileSync(CORPUS, `{\n${head}\n"cases": [\n${cases.join(',\n')}\n]\n}\n`);
  process.stdout.write(`${cases.length} cases, ${Object.keys(DIFFERENCES).length} differ\n`);
}

main();
