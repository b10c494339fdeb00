/**
 * The shuffle between two TaskManagers over loopback, plain and TLS: the product's own servers,
 * links and credit, in two threads. Prints MB/s, events/s and CPU per MB of both ends together.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { pino } from 'pino';
import type {
  ShuffleAttempt,
  ShuffleAttemptOptions,
} from '../worker/src/exchange/shuffle-attempt.ts';
import { ShuffleServer } from '../worker/src/exchange/shuffle-server.ts';
import type { Channel } from '../worker/src/exchange/wire.ts';
import type { AttemptMember } from '../worker/src/rpc/messages.ts';
import { ensureSecretFile, SecretFile } from '../worker/src/rpc/transport-secret.ts';
import { realEnv } from '../worker/src/runtime/env.ts';

const HOST = '127.0.0.1';
const WARM_UP_MS = 1_000;
const MEASURED_MS = 3_000;
const ROUNDS = 3;
const FRAME_KIB = [32, 64];
/** Between a pair of TaskManagers with two slots each. */
const SENDERS = [0, 1];
const RECEIVERS = [2, 3];
const CREDIT = 8;
/** As the generated stream makes them, with what the exchange adds. */
const EVENT_BYTES = 160;

interface Setup {
  secretFile: string | null;
  frameBytes: number;
  port: number;
}

function serve(secretFile: string | null): Promise<ShuffleServer> {
  const keys = secretFile === null ? null : new SecretFile(secretFile, realEnv);
  const log = pino({ level: 'silent' });
  return ShuffleServer.listen({ env: realEnv, log, host: HOST, port: 0, keys });
}

const BOTH = { sender: 1, receiver: 1 };

function begin(
  server: ShuffleServer,
  self: string,
  port: number,
  events: Pick<ShuffleAttemptOptions, 'deliver' | 'granted'>,
): ShuffleAttempt {
  const members: AttemptMember[] = [
    { taskManagerId: 'tm-1', host: HOST, port: 0, subtasks: SENDERS },
    { taskManagerId: 'tm-2', host: HOST, port, subtasks: RECEIVERS },
  ];
  const attempts = [...SENDERS, ...RECEIVERS].map(() => 1);
  return server.begin({
    attempts,
    ...{ jobId: 'bench', attempt: 1, secret: 'bench', self, members, credit: CREDIT },
    ...{ heartbeatMs: 1_000, timeoutMs: 10_000, ...events },
    // The other end has measured enough; a thread ends so, too.
    lost: () => process.exit(0),
  });
}

/** A thread of its own: sends as fast as credit comes back, into buffers that come back with it. */
async function sender({ secretFile, frameBytes, port }: Setup): Promise<void> {
  const server = await serve(secretFile);
  const seqs = new Map<string, number>();
  const send = (channel: Channel, given: Uint8Array | null): void => {
    const key = `${channel.from} ${channel.to}`;
    const seq = seqs.get(key) ?? 0;
    seqs.set(key, seq + 1);
    const bytes = given ?? new Uint8Array(frameBytes).fill(seq);
    const records = Math.floor(frameBytes / EVENT_BYTES);
    attempt.send(channel, { kind: 'data', seq, bytes, length: frameBytes, records }, BOTH);
  };
  const attempt = begin(server, 'tm-1', port, { deliver: () => undefined, granted: send });
  for (const from of SENDERS) {
    for (const to of RECEIVERS) {
      for (let open = 0; open < CREDIT; open++) send({ from, to }, null);
    }
  }
}

async function measure(secretFile: string | null, frameBytes: number) {
  const server = await serve(secretFile);
  let bytes = 0;
  let records = 0;
  const attempt = begin(server, 'tm-2', server.port, {
    deliver: (channel, frame) => {
      if (frame.kind !== 'data') return;
      bytes += frame.length;
      records += frame.records;
      attempt.credit(channel, BOTH);
    },
    granted: () => undefined,
  });
  const setup: Setup = { secretFile, frameBytes, port: server.port };
  const worker = new Worker(new URL(import.meta.url), { workerData: setup });
  await wait(WARM_UP_MS);
  const [startBytes, startRecords, startedAt] = [bytes, records, performance.now()];
  const cpu = process.cpuUsage();
  await wait(MEASURED_MS);
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - startedAt) / 1_000;
  const megabytes = (bytes - startBytes) / 1e6;
  const eventsPerSecond = (records - startRecords) / seconds;
  const ended = once(worker, 'exit');
  await server.close();
  await ended;
  const cpuMsPerMegabyte = (user + system) / 1_000 / megabytes;
  return { megabytesPerSecond: megabytes / seconds, eventsPerSecond, cpuMsPerMegabyte };
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-exchange-'));
  const secretFile = join(folder, 'secret');
  ensureSecretFile(secretFile, realEnv);
  try {
    for (const kib of FRAME_KIB) {
      // In turn, so that the machine's moods meet both.
      for (let round = 1; round <= ROUNDS; round++) {
        for (const [way, file] of [
          ['plain', null],
          ['TLS', secretFile],
        ] as const) {
          const figures = await measure(file, kib * 1024);
          const { megabytesPerSecond, eventsPerSecond, cpuMsPerMegabyte } = figures;
          console.log(
            `${kib} KiB frames, ${way.padEnd(5)} ` +
              `${megabytesPerSecond.toFixed(0).padStart(5)} MB/s ` +
              `${(eventsPerSecond / 1e6).toFixed(2).padStart(6)} M events/s ` +
              `${cpuMsPerMegabyte.toFixed(2).padStart(6)} CPU-ms/MB (both ends)`,
          );
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await (isMainThread ? main() : sender(workerData as Setup));
