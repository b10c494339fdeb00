/** `triggerjob checkpoints list|verify`: what a start of the job could go on from. */
import type { Manifest } from '../checkpoint/snapshot.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { formatAge, formatBytes } from './amounts.ts';
import { EXIT } from './exit-codes.ts';
import { type StoreReading, verifyAndReport } from './savepoint-store.ts';
import { findJob, retainedOf } from './stored-job.ts';
import { printTable } from './table.ts';

export interface CheckpointsReading extends StoreReading {
  job?: string;
  retained: number;
}

function jobOf({ env, s3Endpoint, job }: CheckpointsReading, directory: string) {
  const s3 = { endpoint: s3Endpoint ?? null, region: null, pathStyle: null, credentials: null };
  return findJob(directory, job ?? null, env, s3);
}

export async function listCheckpoints(
  reading: CheckpointsReading,
  directory: string,
): Promise<void> {
  const { env, terminal, retained, json } = reading;
  const store = await jobOf(reading, directory);
  const found: Listed[] = [];
  for (const { checkpointId: id, ref, load } of await retainedOf(store, env, retained)) {
    const manifest = await loadOrFault(load);
    if (typeof manifest === 'string') {
      found.push({ id, kind: 'damaged', manifest: ref.name, fault: manifest });
      continue;
    }
    const { kind, completedAt, parallelism, subtasks } = manifest;
    const stateBytes = subtasks.reduce((sum, { figures }) => sum + figures.stateBytes, 0);
    found.push({ id, kind, completedAt, stateBytes, parallelism, manifest: ref.name });
  }
  if (json === true) {
    terminal.print(JSON.stringify(found, null, 2));
    return;
  }
  const rows = found.map((one) => [
    String(one.id),
    one.kind,
    ...('fault' in one
      ? ['-', '-', '-', `${one.manifest}: ${one.fault}`]
      : [
          formatAge(env.now() - one.completedAt),
          formatBytes(one.stateBytes),
          String(one.parallelism),
          one.manifest,
        ]),
  ]);
  printTable(terminal, [['ID', 'KIND', 'AGE', 'SIZE', 'PAR', 'MANIFEST'], ...rows]);
}

type Listed = { id: number; manifest: string } & (
  | { kind: 'damaged'; fault: string }
  | { kind: Manifest['kind']; completedAt: number; stateBytes: number; parallelism: number }
);

/** The exit code: 1 if any of them is damaged. */
export async function verifyCheckpoints(
  reading: CheckpointsReading,
  directory: string,
): Promise<number> {
  const { env, terminal, retained } = reading;
  const store = await jobOf(reading, directory);
  let code: number = EXIT.ok;
  for (const { checkpointId, ref, load } of await retainedOf(store, env, retained)) {
    const manifest = await loadOrFault(load);
    if (typeof manifest === 'string') {
      if (reading.json === true) {
        const damaged = [{ object: ref.name, fault: manifest }];
        terminal.print(
          JSON.stringify({ what: `checkpoint ${checkpointId}`, whole: false, damaged }),
        );
      } else terminal.print(`${terminal.paint('red', 'damaged')} ${ref.name}: ${manifest}`);
      code = EXIT.failed;
      continue;
    }
    const found = await verifyAndReport(reading, store, manifest, `checkpoint ${checkpointId}`);
    if (found !== EXIT.ok) code = found;
  }
  return code;
}

/** What is wrong with it, in words; what says nothing of the checkpoint is thrown. */
async function loadOrFault(load: () => Promise<Manifest>): Promise<Manifest | string> {
  try {
    return await load();
  } catch (thrown) {
    const code = thrown instanceof TriggerJobError ? thrown.code : '';
    if (!/^(SEGMENT|MANIFEST)_/.test(code)) throw thrown;
    return messageOf(thrown);
  }
}
