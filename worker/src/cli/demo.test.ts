import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocument } from 'yaml';
import { realEnv } from '../runtime/env.ts';
import { adaptSample, type DemoOptions, demoStateDir } from './demo.ts';
import { firstWebhookLine, liveLines } from './demo-screen.ts';
import type { JobStatus } from './rest-client.ts';
import { Terminal } from './terminal.ts';

const STATUS: JobStatus = {
  state: 'RUNNING',
  eventsPerSecond: 1_999.6,
  processed: 20_000,
  matched: 812,
  delivered: 800,
  deadLettered: 0,
  users: 1_000,
  parked: 0,
  outbox: 12,
  inputEnded: false,
  restoredCheckpoint: null,
  parallelism: 4,
  restoredSubtasks: 4,
  lastCheckpoint: { id: 7, at: 90_000, bytes: 1_258_291, durationMs: 44.6 },
  restarts: 0,
  failure: null,
};
const COUNTS = { received: 800, repeated: 0, invalid: 0 };
const REST = 'http://127.0.0.1:8081';

describe('demo', () => {
  it('shows the flow and the last checkpoint', () => {
    assert.deepEqual(liveLines(STATUS, COUNTS, REST, 94_000), [
      '2,000 events/s | matched 812 | delivered 800 | users in state 1,000',
      'checkpoint 7: 4 s ago, 1.2 MiB, 45 ms | REST http://127.0.0.1:8081',
    ]);
  });

  it('shows what is unusual only when there is some', () => {
    const status = { ...STATUS, state: 'RESTARTING', parked: 3, restarts: 2, lastCheckpoint: null };
    const [flow, kept, unusual] = liveLines(status, { ...COUNTS, repeated: 5 }, REST, 0);
    assert.match(flow ?? '', /^RESTARTING \| 2,000 events/);
    assert.match(kept ?? '', /^no checkpoint yet/);
    assert.equal(unusual, 'waiting for a profile 3 | restarts 2 | repeated deliveries 5');
  });

  it('shows the first webhook, cut', () => {
    const line = firstWebhookLine(3.21, '/hook', `{"event":"${'x'.repeat(200)}"}`);
    const start = 'first webhook delivered after 3.2 s: POST /hook {"event":"x';
    assert.ok(line.startsWith(start) && line.endsWith('x...'), line);
    assert.equal(line.split('POST /hook ')[1]?.length, 123);
  });

  it('points the sample at its own services and stream', () => {
    const sample = {
      spec: {
        source: { datagen: { users: 1, eventsPerSecond: 1 } },
        state: { profileApi: { url: 'http://127.0.0.1:8090' } },
        filter: { scriptFile: 'filter.av' },
        action: { webhook: { url: 'http://127.0.0.1:8091/hook' } },
      },
    };
    const adapted = (options: { kafka: string | null; users: number | null; rate: null }) => {
      const document = parseDocument(JSON.stringify(sample));
      adaptSample(document, options, { profile: 9001, webhook: 9002 }, '/samples');
      return document.toJS().spec;
    };
    const spec = adapted({ kafka: null, users: 50, rate: null });
    assert.equal(spec.state.profileApi.url, 'http://127.0.0.1:9001');
    assert.equal(spec.action.webhook.url, 'http://127.0.0.1:9002/hook');
    assert.equal(spec.filter.scriptFile, '/samples/filter.av');
    assert.deepEqual(spec.source.datagen, { users: 50, eventsPerSecond: 1 });
    const kafka = adapted({ kafka: 'broker:9092', users: null, rate: null });
    assert.equal(kafka.source.kafka.bootstrapServers, 'broker:9092');
  });

  it('keeps the state of different streams apart', () => {
    const terminal = new Terminal(process.stdout, process.stderr, {});
    const nothing = { kafka: null, users: null, rate: null, stateDir: null, restPort: null };
    const rest = { produce: false, taskManagers: 1 };
    const options: DemoOptions = { env: realEnv, terminal, ...rest, ...nothing };
    const dirs = [
      demoStateDir(options),
      demoStateDir({ ...options, users: 5 }),
      demoStateDir({ ...options, users: 5, rate: 7 }),
      demoStateDir({ ...options, kafka: 'h:9092' }),
      demoStateDir({ ...options, kafka: 'h:9092', stateDir: 'mine' }),
    ];
    assert.deepEqual(dirs, [
      '.triggerjob/demo',
      '.triggerjob/demo-5-users',
      '.triggerjob/demo-5-users-7-per-s',
      '.triggerjob/demo-kafka-h-9092',
      'mine',
    ]);
  });
});
