/**
 * Reads what `--profile FOLDER` left: `npm run bench -- profile-top FOLDER [rows]` prints per slot
 * thread where the time went (functions by self time) and what the collector took.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface ProfileNode {
  id: number;
  callFrame: { functionName: string; url: string; lineNumber: number };
}

interface Profile {
  nodes: ProfileNode[];
  samples: number[];
  timeDeltas: number[];
}

interface Facts {
  wallMs: number;
  threadCpuMs: number;
  collections: Record<string, { count: number; ms: number }>;
}

/** V8's numbers for kinds of collections. */
const KINDS: Record<string, string> = {
  '1': 'scavenge',
  '2': 'minor mark-sweep',
  '4': 'mark-compact',
  '8': 'incremental marking',
  '16': 'weak callbacks',
};

function selfTimes(profile: Profile): Map<string, number> {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node)]));
  const times = new Map<string, number>();
  profile.samples.forEach((id, i) => {
    const name = names.get(id) ?? '?';
    times.set(name, (times.get(name) ?? 0) + profile.timeDeltas[i]! / 1_000);
  });
  return times;
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const place = url === '' ? '' : ` ${url.replace(/^.*\/(?=[^/]+\/[^/]+$)/, '')}:${lineNumber + 1}`;
  return `${functionName || '(anonymous)'}${place}`;
}

function print(folder: string, thread: string, rows: number): void {
  const profile: Profile = JSON.parse(readFileSync(join(folder, `${thread}.cpuprofile`), 'utf8'));
  const facts: Facts = JSON.parse(readFileSync(join(folder, `${thread}.json`), 'utf8'));
  const times = selfTimes(profile);
  const idle = times.get('(idle)') ?? 0;
  const total = [...times.values()].reduce((sum, ms) => sum + ms, 0) - idle;
  const share = (ms: number) => `${((100 * ms) / total).toFixed(1).padStart(5)} %`;
  console.log(`${thread}: ${(facts.wallMs / 1_000).toFixed(1)} s, busy ${Math.round(total)} ms`);
  console.log(`CPU of the thread ${Math.round(facts.threadCpuMs)} ms`);
  for (const [kind, { count, ms }] of Object.entries(facts.collections)) {
    console.log(`  ${KINDS[kind] ?? kind}: ${count}, ${Math.round(ms)} ms ${share(ms)}`);
  }
  const top = [...times].filter(([name]) => name !== '(idle)').sort((a, b) => b[1] - a[1]);
  for (const [name, ms] of top.slice(0, rows)) console.log(`${share(ms)}  ${name}`);
}

const [folder = '.', rows = '25'] = process.argv.slice(2);
for (const file of readdirSync(folder)) {
  if (file.endsWith('.cpuprofile')) print(folder, file.replace('.cpuprofile', ''), Number(rows));
}
