/**
 * A real Prometheus for tests, Debian's: one process on loopback over a temporary folder, which
 * scrapes every second. Everything it starts ends with `stop()` or with this process.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { freePort } from './command.ts';
import { endProcess } from './end-process.ts';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;

export interface PrometheusOptions {
  /** host:port whose /metrics is scraped. */
  targets: readonly string[];
  /** `groups:` of rules. */
  rules: string;
}

interface QueryAnswer {
  status: string;
  error?: string;
  data: {
    resultType: string;
    result: { metric: Record<string, string>; value: [number, string] }[];
  };
}

interface RulesAnswer {
  data: { groups: { rules: { name: string; health: string; state: string }[] }[] };
}

export class Prometheus {
  readonly #url: string;
  readonly stop: () => Promise<void>;

  constructor(url: string, stop: () => Promise<void>) {
    this.#url = url;
    this.stop = stop;
  }

  /** Values now; an Error with what Prometheus says of an expression that it can't evaluate. */
  async query(expr: string): Promise<number[]> {
    const url = `${this.#url}/api/v1/query?query=${encodeURIComponent(expr)}`;
    const answer = (await (await fetch(url)).json()) as QueryAnswer;
    if (answer.status !== 'success') throw new Error(`${expr}: ${answer.error}`);
    return answer.data.result.map(({ value }) => Number(value[1]));
  }

  /** State of every alert: inactive, pending, firing; `health` is ok or what went wrong. */
  async alerts(): Promise<{ name: string; health: string; state: string }[]> {
    const answer = await fetch(`${this.#url}/api/v1/rules?type=alert`);
    const { data } = (await answer.json()) as RulesAnswer;
    return data.groups.flatMap(({ rules }) => rules);
  }
}

/** Starts it and waits until it answers: about a second. */
export async function startPrometheus({ targets, rules }: PrometheusOptions): Promise<Prometheus> {
  const folder = await mkdtemp(join(tmpdir(), 'triggerjob-prometheus-'));
  await writeFile(join(folder, 'rules.yaml'), rules);
  await writeFile(
    join(folder, 'prometheus.yaml'),
    stringify({
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: ['rules.yaml'],
      scrape_configs: [{ job_name: 'triggerjob', static_configs: [{ targets: [...targets] }] }],
    }),
  );
  const address = `127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${join(folder, 'prometheus.yaml')}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=${address}`,
    '--log.level=warn',
  ];
  const child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.on('error', (error) => {
    said += error.message;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const killAtExit = () => child.kill('SIGKILL');
  process.once('exit', killAtExit);
  const url = `http://${address}`;
  const ready = () =>
    fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  const end = Date.now() + START_TIMEOUT_MS;
  while (!(await ready())) {
    const over = child.exitCode !== null || child.pid === undefined || Date.now() > end;
    assert.ok(!over, `prometheus does not start (apt-get install prometheus): ${said}`);
    await delay(50);
  }
  return new Prometheus(url, async () => {
    await endProcess(child, STOP_TIMEOUT_MS);
    process.removeListener('exit', killAtExit);
    await rm(folder, { recursive: true, force: true });
  });
}
