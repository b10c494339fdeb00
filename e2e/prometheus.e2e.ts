/**
 * The promise: dashboards and alerts work. A real Prometheus scrapes a real job that reads from a
 * real Kafka, and the operator's registry; every panel has data, what should move under load moves.
 * A webhook or a Profile API that goes down and a TaskManager that hangs make their alerts fire.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { Kafka, logLevel, type Producer } from 'kafkajs';
import { parse, stringify } from 'yaml';
import { Metrics } from '../operator/src/metrics.ts';
import { type DemoServices, startDemoServices } from '../worker/src/cli/demo-services.ts';
import { DASHBOARDS, rulesYaml } from './manifests/monitoring/files.ts';
import { Command, freePort, json, restOf } from './testbed/command.ts';
import { type KafkaBroker, startKafka } from './testbed/kafka.ts';
import { type Prometheus, startPrometheus } from './testbed/prometheus.ts';

/** Five times what the slowest step takes. */
const WATCHDOG_MS = 120_000;
const TOPIC = 'clicks';
const JOB = 'clicks';
/** Instead of minutes and hours: of what an expression looks back on, and waits for. */
const WINDOW = '10s';
const WAIT = '2s';
const EVENTS_PER_BATCH = 100;
const BATCH_MS = 200;
/** A disk of the machine may be nearly full: nothing that the job is to blame for. */
const MACHINE_ALERTS = new Set(['TriggerJobDiskFull']);

let broker: KafkaBroker;
let folder: string;
let hook: Server;
let hookWorks = true;
let services: DemoServices;
/** Of the Profile API, and of a receiver that nobody calls. */
let ports: [number, number];
let rest: string;
let operator: Server;
let producer: Producer;
let job: Command;
let prometheus: Prometheus;
let producing = true;
let produced: Promise<void>;

const portOf = (server: Server): number => {
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
};

async function listening(server: Server): Promise<Server> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** The operator's own registry, in which something happens at each scrape. */
function operatorServer(): Promise<Server> {
  const metrics = new Metrics(1, 'triggerjob-operator');
  const { queue, reflector, request } = metrics;
  metrics.show({
    queue: () => ({ depth: 0, active: 1, sumSeconds: 0, longestSeconds: 0 }),
    leading: () => true,
    states: () => ['Running', 'Suspended', 'Running'],
    caches: () => [{ kind: 'TriggerJob', objects: 1, stalenessSeconds: 1 }],
  });
  const server = createServer((_, response) => {
    queue.added();
    queue.taken(0.01);
    queue.finished('success', 0.05);
    queue.retried();
    reflector.listed('TriggerJob');
    reflector.watchFailed('TriggerJob', 'gone');
    request.request({ method: 'GET', code: '200', host: 'api', seconds: 0.01 });
    metrics.eventDropped('full');
    void metrics.text().then(({ contentType, text }) => {
      response.writeHead(200, { 'content-type': contentType }).end(text);
    });
  });
  return listening(server);
}

/** The same users again and again, and some new ones, until it is told to end. */
async function produce(): Promise<void> {
  for (let n = 0; producing; n++) {
    const messages = Array.from({ length: EVENTS_PER_BATCH }, (_, i) => {
      const user = i % 10 === 0 ? `new-${n}-${i}` : `u${(n * 7 + i) % 200}`;
      const event = { user_id: user, event_name: 'click', triggerable: i % 2 === 0 };
      return { key: user, value: JSON.stringify(event) };
    });
    // One that nobody can read: a dead letter.
    messages.push({ key: 'poison', value: '{"user_id":' });
    await producer.send({ topic: TOPIC, messages });
    await wait(BATCH_MS);
  }
}

async function startJob(profilePort: number): Promise<string> {
  const file = join(folder, 'job.yaml');
  const spec = {
    parallelism: 2,
    source: { kafka: { bootstrapServers: broker.bootstrap, topic: TOPIC } },
    state: { profileApi: { url: `http://127.0.0.1:${profilePort}` } },
    filter: { script: 'event.triggerable' },
    action: {
      webhook: {
        url: `http://127.0.0.1:${portOf(hook)}`,
        allowPrivateAddresses: true,
        maxBackoff: '1s',
      },
    },
    checkpointing: { interval: '2s', minPause: '0s', directory: `file://${folder}/checkpoints` },
    heartbeat: { interval: '500ms', timeout: '3s' },
    taskManager: { slots: 2 },
  };
  const head = { apiVersion: 'triggerjob.io/v1alpha1', kind: 'TriggerJob' };
  await writeFile(file, stringify({ ...head, metadata: { name: JOB }, spec }));
  const port = String(await freePort());
  job = new Command(['run', file, '--state-dir', join(folder, 'state'), '--rest-port', port]);
  return await restOf(job);
}

const shortened = (expr: string): string => expr.replaceAll(/\[\d+[smhd]\]/g, `[${WINDOW}]`);

/** The rules as they are, but for how long they look back and wait. */
function quickRules(): string {
  const { groups } = parse(rulesYaml()) as {
    groups: { name: string; rules: { expr: string; for: string }[] }[];
  };
  for (const { rules } of groups) {
    for (const rule of rules) {
      rule.expr = shortened(rule.expr);
      rule.for = WAIT;
    }
  }
  return stringify({ groups });
}

/** As Grafana fills in its variables. */
const filled = (expr: string): string =>
  shortened(
    expr
      .replaceAll('$__rate_interval', WINDOW)
      .replaceAll('$namespace', '.*')
      .replaceAll('$job', JOB),
  );

async function until(what: () => Promise<string | null>): Promise<void> {
  const end = Date.now() + WATCHDOG_MS;
  for (;;) {
    const missing = await what();
    if (missing === null) return;
    assert.ok(Date.now() < end, `still waiting for: ${missing}\n${job.output.slice(-2_000)}`);
    await wait(500);
  }
}

const value = async (expr: string): Promise<number> => (await prometheus.query(expr))[0] ?? 0;

async function firing(): Promise<string[]> {
  const alerts = await prometheus.alerts();
  return alerts.filter(({ state }) => state === 'firing').map(({ name }) => name);
}

const CRITICAL = new Set(
  (
    parse(rulesYaml()) as { groups: { rules: { alert: string; labels: { severity: string } }[] }[] }
  ).groups
    .flatMap(({ rules }) => rules)
    .filter(({ labels }) => labels.severity === 'critical')
    .map(({ alert }) => alert),
);

const critical = async (): Promise<string[]> =>
  (await firing()).filter((name) => CRITICAL.has(name) && !MACHINE_ALERTS.has(name)).toSorted();

async function untilFires(name: string): Promise<void> {
  await until(async () => ((await firing()).includes(name) ? null : name));
}

async function untilWell(): Promise<void> {
  await until(async () => {
    const left = await critical();
    return left.length === 0 ? null : `the end of ${left}`;
  });
}

describe('a Prometheus that scrapes a job', () => {
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'triggerjob-prometheus-e2e-'));
    broker = await startKafka();
    await broker.createTopic(TOPIC, 4);
    hook = await listening(
      createServer((request, response) => {
        request.resume().once('end', () => response.writeHead(hookWorks ? 200 : 503).end());
      }),
    );
    ports = [await freePort(), await freePort()];
    services = await startDemoServices(...ports);
    operator = await operatorServer();
    producer = new Kafka({ brokers: [broker.bootstrap], logLevel: logLevel.NOTHING }).producer();
    await producer.connect();
    produced = produce();
    rest = await startJob(ports[0]);
    const targets = [rest.replace('http://', ''), `127.0.0.1:${portOf(operator)}`];
    prometheus = await startPrometheus({ targets, rules: quickRules() });
  });

  after(async () => {
    producing = false;
    await produced;
    await producer?.disconnect();
    job?.child.kill('SIGKILL');
    await prometheus?.stop();
    await services?.close();
    for (const server of [hook, operator]) {
      server?.close();
      server?.closeAllConnections();
    }
    await broker?.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  it('has data for every panel', async () => {
    const panels = Object.entries(DASHBOARDS).flatMap(([name, { rows }]) =>
      rows.flatMap((row) =>
        row.panels.flatMap(({ title, queries }) =>
          queries.map(({ expr }) => ({ panel: `${name}: ${title}`, expr: filled(expr) })),
        ),
      ),
    );
    assert.ok(panels.length > 80);
    await until(async () => {
      const empty: string[] = [];
      for (const { panel, expr } of panels) {
        const values = await prometheus.query(expr);
        if (!values.some((one) => !Number.isNaN(one))) empty.push(`${panel}: ${expr}`);
      }
      return empty.length === 0 ? null : empty.join('\n');
    });
    for (const { annotations } of Object.values(DASHBOARDS)) {
      for (const { expr } of annotations) await prometheus.query(filled(expr));
    }
  });

  it('sees what should move under load move', async () => {
    const moving = [
      'rate(triggerjob_records_read_total[10s])',
      'rate(triggerjob_delivered_total[10s])',
      'rate(triggerjob_webhook_attempts_total{result="2xx"}[10s])',
      'rate(triggerjob_dead_letters_total{reason="poison"}[10s])',
      'rate(triggerjob_profile_requests_total[10s])',
      'rate(triggerjob_checkpoints_completed_total[10s])',
      'rate(triggerjob_user_state_bytes_count[10s])',
      'sum(rate(triggerjob_taskmanager_cpu_seconds_total[10s]))',
      'sum(rate(triggerjob_taskmanager_network_receive_bytes_total[10s]))',
      'sum(rate(triggerjob_taskmanager_disk_written_bytes_total[30s]))',
      'min(rate(triggerjob_subtask_busy_seconds_total[10s]))',
      'sum(rate(triggerjob_checkpoint_phase_seconds_count{phase="async"}[10s]))',
      'sum(flink_taskmanager_job_task_numRecordsInPerSecond)',
      'flink_jobmanager_job_numberOfCompletedCheckpoints',
    ];
    await until(async () => {
      const still: string[] = [];
      for (const expr of moving) if (!((await value(expr)) > 0)) still.push(expr);
      return still.length === 0 ? null : still.join('\n');
    });
    const p99 = filled(
      'histogram_quantile(0.99, sum by (le) ' +
        '(rate(triggerjob_end_to_end_latency_seconds_bucket[5m])))',
    );
    await until(async () => ((await value(p99)) < 60 ? null : 'a latency below a minute'));
    // Of a second of a slot a second is told; heartbeats may come late.
    const time = ['busy', 'backpressured', 'idle']
      .map((part) => `rate(triggerjob_subtask_${part}_seconds_total[10s])`)
      .join(' + ');
    await until(async () => {
      const shares = await prometheus.query(time);
      const told = shares.length > 0 && shares.every((share) => share > 0.8 && share < 1.2);
      return told ? null : `a second of each second: ${shares}`;
    });
  });

  it('evaluates every alert, and none that is critical fires', async () => {
    await until(async () => {
      const sick = (await prometheus.alerts()).filter(({ health }) => health !== 'ok');
      return sick.length === 0 ? null : JSON.stringify(sick);
    });
    await untilWell();
  });

  it('tells of a webhook that is down, and that it is back', async () => {
    hookWorks = false;
    await until(async () => {
      const names = await firing();
      const wanted = ['TriggerJobWebhookDown', 'TriggerJobWebhookErrors'];
      const missing = wanted.filter((name) => !names.includes(name));
      return missing.length === 0 ? null : String(missing);
    });
    assert.deepEqual(await critical(), ['TriggerJobWebhookDown']);
    assert.ok((await value('triggerjob_outbox_entries')) > 0);
    assert.ok((await value('rate(triggerjob_webhook_attempts_total{result="5xx"}[10s])')) > 0);
    hookWorks = true;
    await untilWell();
  });

  it('tells of a Profile API that is down, and that it is back', async () => {
    await services.close();
    await untilFires('TriggerJobProfileApiDown');
    assert.ok((await value('triggerjob_parked_events')) > 0);
    services = await startDemoServices(...ports);
    await untilWell();
  });

  it('tells of a TaskManager that hangs, and that another is there', async () => {
    const details = await json<{ taskManagers: { pid: number }[] }>(`${rest}/api/v1/details`);
    const { pid } = details.taskManagers[0]!;
    process.kill(pid, 'SIGSTOP');
    await untilFires('TriggerJobTaskManagersMissing');
    // It finds itself given up, and ends; its successor is started.
    process.kill(pid, 'SIGCONT');
    await untilWell();
    assert.ok((await value('triggerjob_restarts_total')) > 0);
  });
});
