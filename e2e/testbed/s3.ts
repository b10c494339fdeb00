/**
 * A real S3 server for tests: versitygw over a temporary directory, built once through the Go
 * module proxy, on loopback. Everything it starts ends with `stop()` or with this process.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { installOnce } from './cache.ts';
import { endProcess } from './end-process.ts';

const run = promisify(execFile);

const VERSION = '1.8.0';
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
const REGION = 'us-east-1';

export interface S3Server {
  /** `http://HOST:PORT`; buckets are in the path. */
  readonly endpoint: string;
  /** The first of the buckets, all there and empty from the start. */
  readonly bucket: string;
  /** The bucket's objects as files, for a look that asks nobody. */
  readonly directory: string;
  readonly accessKey: string;
  readonly secretKey: string;
  /** Files with the two keys. */
  readonly accessKeyFile: string;
  readonly secretKeyFile: string;
  /** The server process ends; objects and port stay for `up`. */
  down(): Promise<void>;
  up(): Promise<void>;
  /** Ends the server and removes its objects. */
  stop(): Promise<void>;
}

/**
 * Starts a server and waits until it answers: under a second, and once per machine the build.
 * `host`: an address of this machine.
 */
export async function startS3(
  host = '127.0.0.1',
  buckets: readonly [string, ...string[]] = ['triggerjob-tests'],
): Promise<S3Server> {
  const binary = join(await installVersitygw(), 'versitygw');
  const folder = await mkdtemp(join(tmpdir(), 'triggerjob-s3-'));
  const keys = { accessKey: 'testbed', secretKey: 'testbed-secret-key' };
  const files = {
    accessKeyFile: join(folder, 'access-key'),
    secretKeyFile: join(folder, 'secret-key'),
  };
  await writeFile(files.accessKeyFile, `${keys.accessKey}\n`);
  await writeFile(files.secretKeyFile, `${keys.secretKey}\n`, { mode: 0o600 });
  await mkdir(join(folder, 'objects'));
  const address = `${host}:${await freePort(host)}`;
  const endpoint = `http://${address}`;
  const [bucket] = buckets;
  const start = () => startServer(binary, folder, address, keys);
  let child = await start();
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  for (const name of buckets) await makeBucket(endpoint, name, keys);
  return {
    endpoint,
    bucket,
    directory: join(folder, 'objects', bucket),
    ...keys,
    ...files,
    down: () => endProcess(child, STOP_TIMEOUT_MS),
    async up() {
      child = await start();
    },
    async stop() {
      await endProcess(child, STOP_TIMEOUT_MS);
      process.removeListener('exit', killAtExit);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function installVersitygw(): Promise<string> {
  return await installOnce(`versitygw/${VERSION}`, async (folder) => {
    const path = `github.com/versity/versitygw/cmd/versitygw@v${VERSION}`;
    await run('go', ['install', path], { env: { ...process.env, GOBIN: folder } });
  });
}

interface Keys {
  accessKey: string;
  secretKey: string;
}

async function startServer(
  binary: string,
  folder: string,
  address: string,
  keys: Keys,
): Promise<ChildProcess> {
  const logFile = join(folder, 'server.log');
  const log = openSync(logFile, 'a');
  const login = ['--access', keys.accessKey, '--secret', keys.secretKey, '--region', REGION];
  const place = ['--port', address, 'posix', join(folder, 'objects')];
  const child = spawn(binary, [...login, ...place], { stdio: ['ignore', log, log] });
  closeSync(log);
  for (const deadline = Date.now() + START_TIMEOUT_MS; ; await delay(50)) {
    // Any answer will do: without a signature it is a refusal.
    const answers = await fetch(`http://${address}/`).then(
      async (answer) => (await answer.text()) !== '',
      () => false,
    );
    if (answers) return child;
    if (child.exitCode === null && Date.now() < deadline) continue;
    child.kill('SIGKILL');
    const tail = (await readFile(logFile, 'utf8')).split('\n').slice(-20).join('\n');
    throw new Error(`versitygw did not start on ${address}; end of its log:\n${tail}`);
  }
}

async function makeBucket(endpoint: string, bucket: string, keys: Keys): Promise<void> {
  const credentials = { accessKeyId: keys.accessKey, secretAccessKey: keys.secretKey };
  const client = new S3Client({ endpoint, region: REGION, credentials, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
}

async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await once(server.close(), 'close');
  return port;
}
