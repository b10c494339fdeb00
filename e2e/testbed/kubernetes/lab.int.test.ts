/**
 * The lab is a Kubernetes that can be relied on: pods reach each other by name, keep their volumes,
 * and reach what the test brings in; there is one lab at a time; an interrupted one is cleaned up;
 * and the machine is as it was.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { buildImage, type Image } from './images.ts';
import { type Lab, labImpediment, startLab } from './lab.ts';

const run = promisify(execFile);
/** Ten times what each step usually takes. */
const WATCHDOG_MS = 120_000;

const impediment = await labImpediment();

describe('the Kubernetes lab', { skip: impediment ?? false }, () => {
  let lab: Lab;
  let image: Image;
  let machine: string;

  before(async () => {
    image = await buildImage('worker');
    machine = await machineState();
    lab = await startLab();
    await lab.loadImage(image.archive);
  });

  after(async () => {
    await lab?.stop();
  });

  it('is the only one: a second is refused and names who owns the first', async () => {
    await assert.rejects(startLab(), new RegExp(`a lab is up already: process ${process.pid} `));
    assert.equal(await lab.kubectl(['get', '--raw', '/readyz']), 'ok');
  });

  it('lets a pod reach a Service by name, and what the test brings in', async () => {
    const outside = createServer((_, response) => response.end('from outside')).listen(0);
    await once(outside, 'listening');
    const address = await lab.exposeToPods((outside.address() as AddressInfo).port);
    await lab.kubectl(['apply', '-f', '-'], JSON.stringify(list(server(image.tag), SERVICE)));
    const ask = `
      const get = async (url) => (await fetch(url)).text();
      const untilGot = (url) => get(url).catch(() => untilGot(url));
      const byName = await untilGot('http://server.default.svc:80/');
      console.log(await get('http://${address}/'), byName);`;
    await lab.kubectl(['apply', '-f', '-'], JSON.stringify(nodePod('client', image.tag, ask)));
    assert.equal(await outputOf(lab, 'client'), 'from outside from a pod\n');
    const port = await lab.forward(`${await podAddress(lab, 'server')}:8080`);
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'from a pod');
    outside.close();
  });

  it('keeps a claimed volume for the next pod, writable for one that is not root', async () => {
    const files = "const fs = require('fs');";
    const write = `${files} fs.writeFileSync('/data/kept', 'kept')`;
    const read = `${files} console.log(fs.readFileSync('/data/kept', 'utf8'))`;
    await lab.kubectl(['apply', '-f', '-'], JSON.stringify(CLAIM));
    for (const [name, code] of [
      ['writer', write],
      ['reader', read],
    ] as const) {
      const made = nodePod(name, image.tag, code, 'commonjs');
      Object.assign(made.spec.containers[0]!, {
        volumeMounts: [{ name: 'data', mountPath: '/data' }],
      });
      const volumes = [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }];
      Object.assign(made.spec, { volumes });
      await lab.kubectl(['apply', '-f', '-'], JSON.stringify(made));
      assert.equal(await outputOf(lab, name), name === 'reader' ? 'kept\n' : '');
    }
  });

  it('leaves the machine as it was', async () => {
    await lab.stop();
    assert.equal(await machineState(), machine);
    assert.equal(existsSync(lab.folder), false);
  });

  it('cleans up after one whose owner was killed', async () => {
    const script = `
      import { startLab } from './lab.ts';
      await startLab();
      process.kill(process.pid, 'SIGKILL');`;
    const TMPDIR = await mkdtemp(join(tmpdir(), 'triggerjob-orphans-'));
    const options = { cwd: import.meta.dirname, env: { ...process.env, TMPDIR } };
    const args = ['--input-type=module-typescript', '--eval', script];
    const ended = await run(process.execPath, args, options).catch((error) => error);
    assert.equal(ended.signal, 'SIGKILL', ended.stderr);
    const left = join(TMPDIR, 'triggerjob-lab');
    assert.ok(existsSync(left), 'the killed owner left its folder');
    const again = script.replace("process.kill(process.pid, 'SIGKILL')", 'await lab.stop()');
    const stopping = again.replace('await startLab', 'const lab = await startLab');
    await run(process.execPath, [...args.slice(0, 2), stopping], options);
    assert.equal(existsSync(left), false);
    assert.equal(await machineState(), machine);
    await rm(TMPDIR, { recursive: true });
  });
});

/** Mounts, network and cgroups of the machine, as text. */
async function machineState(): Promise<string> {
  const [mounts, links, rules] = await Promise.all([
    readFile('/proc/mounts', 'utf8'),
    run('ip', ['-brief', 'address']),
    run('nft', ['list', 'ruleset']),
  ]);
  const hierarchies = await readdir('/sys/fs/cgroup');
  const groups = await Promise.all(
    hierarchies.map(async (name) => {
      const entries = await readdir(join('/sys/fs/cgroup', name), { withFileTypes: true });
      return entries.filter((one) => one.isDirectory()).map((one) => `${name}/${one.name}`);
    }),
  );
  const folders = ['/var/lib/kubelet', '/var/lib/cni', '/var/log/pods'].map(existsSync);
  return [mounts, links.stdout, rules.stdout, ...groups.flat(), ...folders].join('\n');
}

function list(...items: Record<string, unknown>[]) {
  return { apiVersion: 'v1', kind: 'List', items };
}

function nodePod(name: string, image: string, code: string, kind = 'module') {
  const command = ['node', `--input-type=${kind}`, '--eval', code];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: {
      restartPolicy: 'Never',
      securityContext: { fsGroup: 1000 },
      containers: [{ name: 'main', image, imagePullPolicy: 'Never', command }],
    },
  };
}

function server(image: string) {
  const serve = `
    import { createServer } from 'node:http';
    createServer((_, response) => response.end('from a pod')).listen(8080);`;
  return nodePod('server', image, serve);
}

const SERVICE = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'server' },
  spec: { selector: { app: 'server' }, ports: [{ port: 80, targetPort: 8080 }] },
};

const CLAIM = {
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: 'data' },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
};

async function podAddress(lab: Lab, name: string): Promise<string> {
  return await lab.kubectl(['get', 'pod', name, '-o', 'jsonpath={.status.podIP}']);
}

/** What a pod has printed once it succeeded. */
async function outputOf(lab: Lab, name: string): Promise<string> {
  const path = 'jsonpath={.status.phase}';
  const end = Date.now() + WATCHDOG_MS;
  for (;;) {
    const phase = await lab.kubectl(['get', 'pod', name, '-o', path]);
    if (phase === 'Succeeded') return await lab.kubectl(['logs', name]);
    if (phase === 'Failed' || Date.now() > end) {
      const why = await lab.kubectl(['describe', 'pod', name]);
      assert.fail(`pod ${name} is ${phase}:\n${why}\n${await lab.kubectl(['logs', name])}`);
    }
    await delay(100);
  }
}
