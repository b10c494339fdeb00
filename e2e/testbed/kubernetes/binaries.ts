/**
 * The programs of the Kubernetes test bed, built once per machine through the Go module proxy:
 * `kube/` is a whole Kubernetes and its etcd in one binary, `dns/` is CoreDNS, `pause/` holds a
 * pod's namespaces; Helm is built from its module. A change of a folder's sources makes that one
 * binary anew. Go's own build cache makes such a second build short.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Progress } from '../../../worker/src/cli/progress.ts';
import { Terminal } from '../../../worker/src/cli/terminal.ts';
import { realEnv } from '../../../worker/src/runtime/env.ts';
import { installOnce } from '../cache.ts';

const KUBERNETES_VERSION = '1.36.3';
const HELM_VERSION = '3.22.0';

const SOURCES = fileURLToPath(new URL('.', import.meta.url));
const PROGRESS_INTERVAL_MS = 30_000;
const REDRAW_MS = 250;
/** Ten times the longest build seen. */
const BUILD_LIMIT_MS = 2 * 3_600_000;

export type Print = (line: string) => void;

export const printLine: Print = (line) => {
  process.stdout.write(`${line}\n`);
};

/** Builds what is missing, one after another, so that the tests' watchdogs need not wait for it. */
export async function installKubernetes(print: Print): Promise<void> {
  await installKube(print);
  await installCoreDns(print);
  await installPause(print);
  await installHelm(print);
}

/**
 * The path of `kube`: `kube kube-apiserver ...`, `kube etcd ...`, `kube kubelet ...`. Beside it
 * lies `kubectl`.
 */
export async function installKube(print: Print = printLine): Promise<string> {
  const version = `k8s.io/component-base/version.gitVersion=v${KUBERNETES_VERSION}`;
  const folder = await installBuilt('kube', print, {
    what: `Kubernetes ${KUBERNETES_VERSION}`,
    usual: '6 to 14 minutes on 2 cores',
    linkerFlags: `-s -w -X ${version}`,
    links: ['kubectl'],
  });
  return join(folder, 'kube');
}

export async function installCoreDns(print: Print = printLine): Promise<string> {
  const folder = await installBuilt('dns', print, { what: 'CoreDNS', usual: '2 minutes' });
  return join(folder, 'dns');
}

export async function installPause(print: Print = printLine): Promise<string> {
  const folder = await installBuilt('pause', print, { what: 'pause', usual: 'a second' });
  return join(folder, 'pause');
}

/** The path of `helm`. */
export async function installHelm(print: Print = printLine): Promise<string> {
  const folder = await installOnce(`helm/${HELM_VERSION}-${process.arch}`, async (target) => {
    const path = `helm.sh/helm/v3/cmd/helm@v${HELM_VERSION}`;
    const order = { what: `Helm ${HELM_VERSION}`, usual: '1 to 3 minutes' };
    await go(['install', '-v', path], SOURCES, { GOBIN: target }, print, order);
  });
  return join(folder, 'helm');
}

interface Order {
  what: string;
  usual: string;
}

async function installBuilt(
  source: 'kube' | 'dns' | 'pause',
  print: Print,
  order: Order & { linkerFlags?: string; links?: string[] },
): Promise<string> {
  const folder = join(SOURCES, source);
  const name = `kubernetes/${source}-${await contentHash(folder)}-${process.arch}`;
  return await installOnce(name, async (target) => {
    const flags = ['-v', '-ldflags', order.linkerFlags ?? '-s -w'];
    const output = join(target, source);
    await go(['build', ...flags, '-o', output, '.'], folder, {}, print, order);
    for (const link of order.links ?? []) await symlink(source, join(target, link));
  });
}

/** Says every half minute how far it is: the first build of Kubernetes takes minutes. */
async function go(
  args: string[],
  cwd: string,
  env: Record<string, string>,
  print: Print,
  { what, usual }: Order,
): Promise<void> {
  print(`building ${what}, once per machine: usually ${usual} from empty caches`);
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 1000);
  const child = spawn('go', args, {
    cwd,
    env: { ...process.env, CGO_ENABLED: '0', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: BUILD_LIMIT_MS,
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
  const follow = followBuild(what, print, () => progressOf(lines));
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    if (code === 0) return print(`built ${what} in ${seconds()} s`);
    const end = lines.slice(-20).join('\n');
    throw new Error(`go ${args[0]} of ${what} ended with ${code ?? signal}:\n${end}`);
  } finally {
    follow.end();
  }
}

/** On a terminal a bar that moves, elsewhere a line every half minute. */
function followBuild(what: string, print: Print, detail: () => string): { end(): void } {
  const { stdout, stderr, env: environment } = process;
  const terminal = new Terminal(stdout, stderr, environment);
  const startedAt = performance.now();
  if (!terminal.redraws || print !== printLine) {
    const timer = setInterval(() => {
      const seconds = Math.round((performance.now() - startedAt) / 1000);
      print(`  ${what}, ${seconds} s: ${detail()}`);
    }, PROGRESS_INTERVAL_MS);
    return { end: () => clearInterval(timer) };
  }
  const progress = new Progress({ env: realEnv, terminal, what });
  const timer = setInterval(() => progress.update(null, detail()), REDRAW_MS);
  return {
    end() {
      clearInterval(timer);
      progress.end();
    },
  };
}

/** `go build -v` prints a line per module it downloads and then one per package it compiles. */
function progressOf(lines: readonly string[]): string {
  const downloads = lines.filter((line) => line.startsWith('go: downloading')).length;
  const compiled = lines.length - downloads;
  const last = lines.at(-1)?.replace('go: downloading ', '') ?? 'starting';
  return `${downloads} modules downloaded, ${compiled} packages compiled, now ${last}`;
}

/** First 12 hex digits of the SHA-256 over the names and contents of the files in `folder`. */
async function contentHash(folder: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(folder)).toSorted()) {
    hash.update(`${name}\0`).update(await readFile(join(folder, name)));
  }
  return hash.digest('hex').slice(0, 12);
}
