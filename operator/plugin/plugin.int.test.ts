/**
 * The plugin as a user calls it, `kubectl triggerjob ...`, at a real API server. The test plays the
 * operator: it writes the status that the plugin waits for.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  type ControlPlane,
  startControlPlane,
} from '../../e2e/testbed/kubernetes/control-plane.ts';
import { installCrd } from '../../e2e/testbed/kubernetes/install-crd.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const JOB = 'triggerjob/user-events';
const WATCHDOG_MS = 60_000;

interface Seen {
  metadata: { generation: number; annotations?: Record<string, string> };
  spec: { suspend?: boolean };
}

let plane: ControlPlane;
let folder: string;

async function plugin(...args: string[]): Promise<string> {
  const path = [folder, plane.kubectlFolder, process.env['PATH']].join(delimiter);
  const env = { ...process.env, PATH: path, KUBECONFIG: plane.kubeconfig };
  const kubectl = join(plane.kubectlFolder, 'kubectl');
  const options = { env, timeout: WATCHDOG_MS };
  return (await promisify(execFile)(kubectl, ['triggerjob', ...args], options)).stdout;
}

const seen = async (): Promise<Seen> => JSON.parse(await plane.kubectl(['get', JOB, '-o', 'json']));

async function writeStatus(status: object): Promise<void> {
  const { generation } = (await seen()).metadata;
  const patch = JSON.stringify({ status: { observedGeneration: generation, ...status } });
  await plane.kubectl(['patch', JOB, '--subresource=status', '--type=merge', '-p', patch]);
}

/** The operator's part: acts once the user has asked. */
async function once(asked: (job: Seen) => boolean, act: (job: Seen) => Promise<void>) {
  const end = Date.now() + WATCHDOG_MS;
  for (let job = await seen(); ; job = await seen()) {
    if (asked(job)) return await act(job);
    assert.ok(Date.now() < end, 'the plugin has asked for nothing');
    await sleep(100);
  }
}

const tokenOf = ({ metadata }: Seen): string | undefined =>
  metadata.annotations?.['triggerjob.io/savepoint'];

before(async () => {
  plane = await startControlPlane();
  folder = await mkdtemp(join(tmpdir(), 'triggerjob-plugin-'));
  const bin = join(ROOT, 'operator/bin/kubectl-triggerjob.mjs');
  await symlink(bin, join(folder, 'kubectl-triggerjob'));
  const file = (path: string) => readFile(join(ROOT, path), 'utf8');
  await installCrd(plane);
  await plane.kubectl(['apply', '-f', '-'], await file('config/samples/first.yaml'));
});

after(async () => {
  await plane?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true });
});

describe('kubectl triggerjob', () => {
  it('says the status', async () => {
    await writeStatus({ state: 'Running', ready: '1/1', parallelism: 2 });
    assert.match(
      await plugin('status', 'user-events'),
      /State: {11}Running\n.*Task managers: {3}1\/1/s,
    );
  });

  it('takes a savepoint, and waits for its own', async () => {
    await writeStatus({
      savepoint: { requestToken: 'old', phase: 'Completed', location: 's3://old/' },
    });
    const asked = plugin('savepoint', 'user-events');
    await once(
      (job) => tokenOf(job) !== undefined,
      async (job) => {
        const requestToken = tokenOf(job);
        await writeStatus({
          savepoint: { requestToken, phase: 'Completed', location: 's3://new/' },
        });
      },
    );
    assert.equal(await asked, 's3://new/\n');
  });

  it('ends with 1 and the reason when the savepoint fails', async () => {
    const before = tokenOf(await seen());
    const asked = plugin('savepoint', 'user-events');
    const outcome = assert.rejects(asked, /failed: no JobManager leads/);
    await once(
      (job) => tokenOf(job) !== before,
      async (job) => {
        const error = 'no JobManager leads';
        await writeStatus({ savepoint: { requestToken: tokenOf(job), phase: 'Failed', error } });
      },
    );
    await outcome;
  });

  it('suspends, and resumes', async () => {
    const suspended = plugin('suspend', 'user-events');
    await once(
      ({ spec }) => spec.suspend === true,
      () => writeStatus({ state: 'Suspended', lastSavepoint: 's3://sp/' }),
    );
    assert.equal(await suspended, 'user-events is Suspended, state in s3://sp/\n');
    const resumed = plugin('resume', 'user-events');
    const ready = { type: 'Ready', status: 'True', reason: 'Running', message: 'runs' };
    const times = { lastTransitionTime: '2026-11-26T03:00:00Z' };
    await once(
      ({ spec }) => spec.suspend === false,
      () => writeStatus({ state: 'Running', conditions: [{ ...ready, ...times }] }),
    );
    assert.equal(await resumed, 'user-events is Running\n');
  });

  it('says why, with the Events of the job', async () => {
    await writeStatus({ state: 'Failed', error: 'the topic is gone', conditions: [] });
    const event = {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name: 'e', namespace: 'default' },
      eventTime: '2026-11-26T03:00:00.000000Z',
      reportingController: 'triggerjob.io/operator',
      reportingInstance: 'test',
      action: 'Observe',
      reason: 'JobFailed',
      type: 'Warning',
      note: 'SOURCE_TOPIC_RECREATED',
      regarding: {
        apiVersion: 'triggerjob.io/v1alpha1',
        kind: 'TriggerJob',
        name: 'user-events',
        namespace: 'default',
      },
    };
    await plane.kubectl(['create', '-f', '-'], JSON.stringify(event));
    assert.equal(
      await plugin('why', 'user-events'),
      'user-events is Failed.\n- the topic is gone\nEvents:\n' +
        '  Warning JobFailed: SOURCE_TOPIC_RECREATED\n',
    );
  });

  it('says what kubectl says of a job that is not there', async () => {
    await assert.rejects(plugin('status', 'nobody'), /"nobody" not found/);
  });
});
