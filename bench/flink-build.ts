/** Apache Flink and the job of flink/, built once per version of its sources into the cache. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { installOnce } from '../e2e/testbed/cache.ts';
import { historyJson, profileJson, visitJson } from './dataset.ts';

const run = promisify(execFile);

const FOLDER = fileURLToPath(new URL('./flink/', import.meta.url));
const LEAST_JAVA = 17;
/** Their texts are compared before anything is measured. */
const COMPARED_USERS = [0, 42, 99_999];

/** What is missing on this machine, one line each; empty: Flink can run. */
export async function missingForFlink(): Promise<string[]> {
  const missing: string[] = [];
  const java = await version('javac', '-version');
  const found = /javac (\d+)/.exec(java ?? '')?.[1];
  if (found === undefined || Number(found) < LEAST_JAVA) {
    const what = found === undefined ? 'is missing' : `is ${found}`;
    missing.push(
      `javac ${what}: bench:flink needs a JDK of version ${LEAST_JAVA} or newer ` +
        '(Debian: apt-get install openjdk-17-jdk-headless)',
    );
  }
  if ((await version('mvn', '-v')) === null) {
    missing.push('mvn is missing: bench:flink fetches Flink by Maven (apt-get install maven)');
  }
  return missing;
}

/** null: there is no such command. */
async function version(command: string, flag: string): Promise<string | null> {
  return await run(command, [flag]).then(
    ({ stdout, stderr }) => stdout + stderr,
    () => null,
  );
}

/** For the head of a table: "Flink 2.2.0, javac 17.0.15". */
export async function flinkVersions(): Promise<string> {
  const pom = readFileSync(join(FOLDER, 'pom.xml'), 'utf8');
  const flink = /<flink\.version>([^<]+)</.exec(pom)?.[1] ?? '?';
  return `Flink ${flink}, ${((await version('javac', '-version')) ?? '?').trim()}`;
}

/** The class path of both processes and of the tools. */
export async function buildFlink(): Promise<string> {
  const folder = await installOnce(`flink-bench/${sourceDigest()}`, async (target) => {
    const maven = ['-q', '-B', '-f', join(FOLDER, 'pom.xml'), `-Dbench.build=${target}/build`];
    const goals = ['package', 'dependency:copy-dependencies'];
    await run('mvn', [...maven, ...goals, `-DoutputDirectory=${target}/lib`]);
  });
  const classPath = `${folder}/build/job.jar:${folder}/lib/*`;
  await compareDatasets(classPath);
  return classPath;
}

function sourceDigest(): string {
  const digest = createHash('sha256');
  const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => /\.(java|xml)$/.test(name)).sort()) {
    digest.update(`${file}\n`).update(readFileSync(join(FOLDER, file)));
  }
  return digest.digest('hex').slice(0, 16);
}

/** Both sides make the users of a run themselves: they must be the same ones. */
async function compareDatasets(classPath: string): Promise<void> {
  const users = COMPARED_USERS.map(String);
  const { stdout } = await run('java', ['-cp', classPath, 'bench.Dataset', ...users]);
  const expected = COMPARED_USERS.map((user) =>
    [profileJson(user), visitJson(user), historyJson(user)]
      .map((text) => createHash('sha256').update(text).digest('hex'))
      .join(' '),
  );
  if (stdout.trim() === expected.join('\n')) return;
  throw new Error(`Dataset.java makes other users than dataset.ts:\n${stdout}`);
}
