/**
 * The control plane of the tests does what the operator's tests rely on: it is a real API server,
 * it comes back with its objects, it forgets when told, and nothing outlives it.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type ControlPlane, startControlPlane } from './control-plane.ts';
import { untilServed } from './install-crd.ts';

const run = promisify(execFile);
const WATCHDOG_MS = 20_000;
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';

let plane: ControlPlane;

before(async () => {
  const startedAt = performance.now();
  plane = await startControlPlane();
  printSeconds('etcd and API server ready', startedAt, 10);
});

after(async () => {
  await plane?.stop();
});

describe('the control plane of the tests', () => {
  it('takes a CRD and refuses what its schema forbids, naming the field', async () => {
    await plane.kubectl(['apply', '-f', '-'], JSON.stringify(WIDGETS));
    await untilServed(plane, 'widgets');
    await plane.kubectl(['apply', '-f', '-'], JSON.stringify(widget(3)));
    await assert.rejects(
      plane.kubectl(['apply', '-f', '-'], JSON.stringify(widget(30))),
      /spec\.size: Invalid value: 30/,
    );
  });

  it('grants another user what RBAC grants, and no more', async () => {
    const kubeconfig = await plane.kubeconfigFor('mary', ['readers']);
    const asMary = (...args: string[]) => plane.kubectl(['--kubeconfig', kubeconfig, ...args]);
    // Own roles: `view` and `edit` are filled by a controller, which does not run here.
    await plane.kubectl(['create', 'role', 'r', '--verb=list', '--resource=configmaps']);
    await plane.kubectl(['create', 'rolebinding', 'r', '--role=r', '--group=readers']);
    const end = Date.now() + WATCHDOG_MS;
    const refusal = () => asMary('get', 'configmaps').then(() => null, String);
    for (let why = await refusal(); why !== null; why = await refusal()) {
      assert.ok(Date.now() < end, `waited for the role to be granted: ${why}`);
    }
    await assert.rejects(asMary('create', 'configmap', 'no'), /forbidden: User "mary"/);
  });

  it('keeps its objects when the API server is killed and comes back', async () => {
    await plane.kubectl(['create', 'configmap', 'kept']);
    await plane.apiServerDown();
    await assert.rejects(plane.kubectl(['get', 'configmap', 'kept', '--request-timeout=2s']));
    const startedAt = performance.now();
    await plane.apiServerUp();
    printSeconds('API server back', startedAt, 10);
    assert.match(await plane.kubectl(['get', 'configmap', 'kept', '-o', 'name']), /kept/);
  });

  it('answers 410 to a watch from before the history was forgotten', async () => {
    const old = JSON.parse(await plane.kubectl(['get', '--raw', CONFIG_MAPS]));
    const from = `${CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion=`;
    const version = old.metadata.resourceVersion;
    await plane.kubectl(['create', 'configmap', 'later']);
    assert.match(await rawWatch(from + version), /"ADDED".*later/s);
    await plane.forgetHistory();
    assert.match(await rawWatch(from + version), /"code":410/);
  });

  it('ends with the process that started it, even by SIGKILL', async () => {
    const script = `
      import { startControlPlane } from './control-plane.ts';
      const { server } = await startControlPlane();
      console.log(server);
      process.kill(process.pid, 'SIGKILL');`;
    const TMPDIR = await mkdtemp(join(tmpdir(), 'triggerjob-orphans-'));
    const options = { cwd: import.meta.dirname, env: { ...process.env, TMPDIR } };
    const args = ['--input-type=module-typescript', '--eval', script];
    const ended = await run(process.execPath, args, options).catch((error) => error);
    await rm(TMPDIR, { recursive: true });
    assert.equal(ended.signal, 'SIGKILL', ended.stderr);
    const server = /https:\S+/.exec(ended.stdout)?.[0] ?? '';
    // Without TLS a living API server answers with a 400.
    const lives = () => fetch(server.replace('https', 'http')).then(Boolean, () => false);
    const end = Date.now() + WATCHDOG_MS;
    while (await lives()) assert.ok(Date.now() < end, `${server} still answers`);
  });
});

describe('the control plane with controllers', () => {
  it('makes the Pods of a StatefulSet and deletes what has lost its owner', async () => {
    const other = await startControlPlane({ controllerManager: true });
    try {
      await other.kubectl(['wait', 'serviceaccount/default', '--for=create', '--timeout=60s']);
      await other.kubectl(['apply', '-f', '-'], JSON.stringify(STATEFUL_SET));
      await other.kubectl(['wait', 'pod/web-0', '--for=create', '--timeout=60s']);
      await other.kubectl(['delete', 'statefulset', 'web', '--cascade=background']);
      await other.kubectl(['delete', 'pod', 'web-0', '--force', '--ignore-not-found']);
      await other.kubectl(['wait', 'pod/web-0', '--for=delete', '--timeout=60s']);
    } finally {
      await other.stop();
    }
    assert.equal(existsSync(other.kubeconfig), false);
  });
});

/** What a watch of one second prints, or why it was refused. */
async function rawWatch(path: string): Promise<string> {
  return await plane.kubectl(['get', '--raw', path]).catch((error: Error) => error.message);
}

const WIDGETS = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { kind: 'Widget', plural: 'widgets' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                properties: { size: { type: 'integer', maximum: 10 } },
              },
            },
          },
        },
      },
    ],
  },
};

const widget = (size: number) => ({
  apiVersion: 'example.com/v1',
  kind: 'Widget',
  metadata: { name: 'w' },
  spec: { size },
});

const STATEFUL_SET = {
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { name: 'web' },
  spec: {
    serviceName: 'web',
    replicas: 1,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'main', image: 'example.com/none' }] },
    },
  },
};

function printSeconds(what: string, startedAt: number, goal: number): void {
  const seconds = (performance.now() - startedAt) / 1000;
  const verdict = seconds <= goal ? 'reached' : 'missed';
  process.stdout.write(`${what} in ${seconds.toFixed(1)} s (goal ${goal} s: ${verdict})\n`);
}
