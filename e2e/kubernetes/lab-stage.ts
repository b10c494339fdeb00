/**
 * A lab with what the samples expect: the two images under the chart's names, and Kafka, S3,
 * Profile API and receiver as Services of the namespace `triggers`. And what is done in it:
 * commands of a shell, steps with their seconds, waits that say what is there when they fail.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { installHelm } from '../testbed/kubernetes/binaries.ts';
import { buildImage } from '../testbed/kubernetes/images.ts';
import { type Lab, startLab } from '../testbed/kubernetes/lab.ts';
import type { Judgement, Shape } from './lab-services.ts';
import { LabServices } from './lab-services-client.ts';

const run = promisify(execFile);

export const NAMESPACE = 'triggers';
export const SYSTEM = 'triggerjob-system';
export const JOB = 'user-events';

const SHELL = '/bin/bash';
/** Many times what the longest step takes. */
const WATCHDOG_MS = 300_000;
/** As the chart names them without any value set. */
const IMAGES = ['worker', 'operator'] as const;
export const chartImage = (name: (typeof IMAGES)[number]) =>
  `ghcr.io/triggerjob/triggerjob-${name}:0.1.0`;
/** What the operator makes for a job and takes away with it, claims of volumes included. */
const OWNED = 'statefulsets,services,configmaps,secrets,pods,pvc,leases,poddisruptionbudgets';

export class LabStage {
  readonly lab: Lab;
  readonly services: Awaited<ReturnType<typeof LabServices.start>>;
  /** Where commands are typed; kubeconfig, access-key and secret-key lie in it. */
  readonly folder: string;
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(parts: Pick<LabStage, 'lab' | 'services' | 'folder'>, helm: string) {
    this.lab = parts.lab;
    this.services = parts.services;
    this.folder = parts.folder;
    const path = `${this.lab.kubectlFolder}:${dirname(helm)}:${process.env['PATH']}`;
    const kubeconfig = join(this.folder, 'kubeconfig');
    this.#environment = { ...process.env, PATH: path, KUBECONFIG: kubeconfig };
  }

  static async start(shape: Shape): Promise<LabStage> {
    const startedAt = performance.now();
    const helm = await installHelm();
    const images = [];
    for (const name of IMAGES) images.push({ name, ...(await buildImage(name)) });
    const lab = await startLab();
    try {
      const [services] = await Promise.all([
        LabServices.start(lab, shape),
        ...images.map(async ({ name, archive, tag }) => {
          await lab.loadImage(archive);
          await lab.tagImage(tag, chartImage(name));
        }),
      ]);
      const folder = await mkdtemp(join(tmpdir(), 'triggerjob-lab-stage-'));
      const { accessKey, secretKey } = services.addresses.s3;
      await copyFile(lab.kubeconfig, join(folder, 'kubeconfig'));
      await writeFile(join(folder, 'access-key'), accessKey);
      await writeFile(join(folder, 'secret-key'), secretKey);
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      console.log(`  lab, images, services: ${seconds} s`);
      return new LabStage({ lab, services, folder }, helm);
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.services.end();
    await this.lab.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** What is printed on stdout; all of it is shown. `variables` are the shell's. */
  async shell(command: string, variables: Record<string, string> = {}): Promise<string> {
    const { stdout, stderr } = await run(SHELL, ['-c', command], {
      cwd: this.folder,
      env: { ...this.#environment, ...variables },
      timeout: WATCHDOG_MS,
    }).catch(async (error: unknown) => {
      throw new Error(`${command}: ${String(error)}\n${await this.lookAround()}`);
    });
    if (`${stdout}${stderr}` !== '') console.log(`${stdout}${stderr}`.trimEnd());
    return stdout;
  }

  /** kubectl in the job's namespace. */
  async kubectl(...args: string[]): Promise<string> {
    return await this.lab.kubectl(['-n', NAMESPACE, ...args]);
  }

  async until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    for (const deadline = performance.now() + WATCHDOG_MS; !(await isSo()); await delay(250)) {
      if (performance.now() < deadline) continue;
      throw new Error(`waited ${WATCHDOG_MS / 1000} s for ${what}\n${await this.lookAround()}`);
    }
  }

  async untilDelivered(what: string): Promise<void> {
    const { receipts } = await this.services.progress();
    await this.until(what, async () => (await this.services.progress()).receipts > receipts);
  }

  async untilNothingIsOwned(): Promise<void> {
    const selector = ['-l', `triggerjob.io/job=${JOB}`];
    const list = () => this.kubectl('get', OWNED, ...selector, '-o', 'name', '--ignore-not-found');
    await this.until('the objects of the job to be gone', async () => (await list()) === '');
  }

  /** What somebody on call would ask first. */
  async lookAround(): Promise<string> {
    const asked = [
      ['get', 'tj,pods,pvc,events', '-A', '-o', 'wide'],
      ['get', 'tj', '-A', '-o', 'yaml'],
      ['logs', '-n', SYSTEM, '-l', 'app.kubernetes.io/name=triggerjob-operator'],
      ['logs', '-n', NAMESPACE, '-l', `triggerjob.io/job=${JOB}`, '--tail=30', '--prefix'],
    ];
    const ask = (args: string[]) => this.lab.kubectl(args).catch((error: unknown) => String(error));
    return (await Promise.all(asked.map(ask))).join('\n').slice(-30_000);
  }

  /** kafka, s3, profile-api and receiver, as the sample names them, at what runs by the node. */
  async applyServices(): Promise<void> {
    const { bootstrap, s3, profileUrl, webhookUrl } = this.services.addresses;
    const portOf = (url: string) => Number(new URL(url).port);
    const entries: [string, number, number][] = [
      ['kafka', 9092, Number(bootstrap.split(':')[1])],
      ['s3', 9000, portOf(s3.endpoint)],
      ['profile-api', 80, portOf(profileUrl)],
      ['receiver', 80, portOf(webhookUrl)],
    ];
    const items = entries.flatMap(([name, port, targetPort]) => [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: NAMESPACE },
        spec: { ports: [{ port, targetPort }] },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          name,
          namespace: NAMESPACE,
          labels: { 'kubernetes.io/service-name': name },
        },
        addressType: 'IPv4',
        ports: [{ port: targetPort }],
        endpoints: [{ addresses: [this.lab.nodeAddress] }],
      },
    ]);
    await this.apply({ apiVersion: 'v1', kind: 'List', items });
  }

  async apply(object: object): Promise<void> {
    await this.lab.kubectl(['apply', '-f', '-'], JSON.stringify(object));
  }
}

/** Prints what the step took, in seconds as its goal is. */
export async function timed<T>(step: string, goal: number, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  const took = (performance.now() - startedAt) / 1000;
  const verdict = took <= goal ? 'reached' : 'missed';
  console.log(`  ${step}: ${took.toFixed(1)} s (goal ${goal} s: ${verdict})`);
  return result;
}

export function printJudgement(judgement: Judgement): void {
  const { events, matching, receipts, checkpoints, repeats, file } = judgement;
  console.log(
    `events ${events}, matching ${matching}, receipts ${receipts}, checkpoints ${checkpoints}, ` +
      `repeats ${JSON.stringify(repeats)}`,
  );
  for (const line of [...judgement.violations, ...judgement.trouble]) console.log(line);
  console.log(`judge it again: ${file}`);
}
