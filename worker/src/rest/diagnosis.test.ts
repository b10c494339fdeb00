/** Each rule on a job that it is for; what the knobs name is there to be turned. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { CheckpointHistory } from '../jobmanager/checkpoint-history.ts';
import { JobSeries, type Sample } from '../jobmanager/job-series.ts';
import { JobTotals } from '../jobmanager/job-totals.ts';
import type { JobView } from '../jobmanager/job-view.ts';
import type { SubtaskMetrics } from '../rpc/messages.ts';
import { type Diagnosis, diagnose } from './diagnosis.ts';

type Schema = { properties?: Record<string, Schema> };

const CRD = parse(readFileSync(new URL('../../../crds/triggerjobs.yaml', import.meta.url), 'utf8'));
const SCHEMA: Schema = CRD.spec.versions[0].schema.openAPIV3Schema;

const NOTHING: Sample = {
  at: 0,
  eventsPerSecond: 1_000,
  matchedPerSecond: 10,
  deliveredPerSecond: 10,
  lagRecords: 0,
  latencyP50Seconds: 0.01,
  latencyP99Seconds: 0.05,
  busyRatio: 0.3,
  backPressuredRatio: 0,
  checkpointSeconds: 1,
  stateBytes: 1,
  restarts: 0,
  cacheHitRatio: 1,
  rssBytes: 1,
  webhookP99Seconds: 0.1,
  webhookErrorRatio: 0,
  profileP99Seconds: 0.1,
  profileErrorRatio: 0,
};

interface Change {
  sample?: Partial<Sample>;
  extra?: Record<string, number>;
  view?: Partial<JobView>;
}

const subtask = (number: number, extra: Record<string, number> = {}): SubtaskMetrics =>
  ({ subtask: number, extra }) as SubtaskMetrics;

/** Records per second of each subtask; null: not known yet. */
const ratesOf = (...rates: (number | null)[]): Pick<JobView, 'ratesOf'> => ({
  ratesOf: (number) => {
    const recordsProcessed = rates[number] ?? null;
    return recordsProcessed === null ? null : { ...new JobTotals().counters(), recordsProcessed };
  },
});

/** A healthy job of two subtasks, with a change. */
function viewWith({ sample = {}, extra = {}, view = {} }: Change): JobView {
  const series = new JobSeries();
  series.last = () => [{ ...NOTHING, ...sample }];
  const totals = new JobTotals();
  return {
    status: 'RUNNING',
    terminal: false,
    now: 60_000,
    enteredAt: () => 48_000,
    plan: { checkpointing: { intervalMs: 60_000 } },
    parallelism: 2,
    scaling: { wanted: 2, rescales: 0, events: [] },
    taskManagers: [{ slots: 2 }],
    checkpoints: new CheckpointHistory(),
    exceptions: { entries: [] },
    counters: totals.counters(),
    gauges: { ...totals.gauges(), outbox: 4_321, parked: 1_234 },
    eventsPerSecond: 1_000,
    lag: sample.lagRecords ?? 0,
    subtasks: [subtask(0, extra), subtask(1)],
    ...ratesOf(500, 500),
    bounds: {},
    splits: { total: 4, held: 0, expiredHolds: 0 },
    series,
    ...view,
  } as unknown as JobView;
}

const failing = new CheckpointHistory();
failing.triggered(7, 'periodic', 0, 1);
failing.failed(7, 'it took longer than 10m', 1);

const BEHIND = { lagRecords: 500_000 };
const LIMITED = { parked_bytes_limit: 100, outbox_bytes_limit: 100, owed_bytes_limit: 100 };

const cases: [string, Change, Diagnosis['bottleneck'], RegExp][] = [
  [
    'without slots',
    { view: { status: 'CREATED', taskManagers: [] } as Partial<JobView> },
    null,
    /CREATED: 0 of 2 slots/,
  ],
  ['that restarts', { view: { status: 'RESTARTING' } }, null, /RESTARTING for 12 s/],
  ['whose webhook fails', { sample: { webhookErrorRatio: 0.43 } }, 'action', /43 % .* 4,321/],
  [
    'whose Profile API fails',
    { sample: { profileErrorRatio: 0.5 } },
    'profile-api',
    /fails 50 % .* 1,234 events/,
  ],
  ['with an open breaker', { extra: { profile_breakerOpen: 1 } }, 'profile-api', /is down/],
  ['without checkpoints', { view: { checkpoints: failing } }, 'checkpoint', /longer than 10m/],
  [
    'with a slow webhook',
    { extra: { ...LIMITED, outbox_bytes: 95 }, sample: { webhookP99Seconds: 2.5 } },
    'action',
    /p99 of 2\.5 s/,
  ],
  ['with a slow Profile API', { extra: { ...LIMITED, parked_bytes: 99 } }, 'profile-api', /slow/],
  ['with a slow store', { extra: { ...LIMITED, owed_bytes: 99 } }, 'checkpoint', /uploads/],
  ['with a slow disk', { extra: { rocksdb_write_stopped: 1 } }, 'state', /compactions/],
  ['with long checkpoints', { sample: { checkpointSeconds: 40 } }, 'checkpoint', /40\.0 s of the/],
  ['with one hot user', { sample: BEHIND, view: ratesOf(1, 99_999) }, 'filter', /1 does 100 %/],
  ['without cores', { sample: { ...BEHIND, busyRatio: 0.97 } }, 'filter', /busy 97 %/],
  [
    'that reads its users from disk',
    { sample: { ...BEHIND, busyRatio: 0.97, cacheHitRatio: 0.4 } },
    'state',
    /60 % of their users from disk/,
  ],
  ['held up', { sample: { ...BEHIND, backPressuredRatio: 0.6 } }, 'filter', /sources wait/],
  [
    'with few partitions',
    { sample: BEHIND, view: { splits: { total: 1, held: 0, expiredHolds: 0 } } },
    'source',
    /1 partitions feed 2/,
  ],
  ['that Kafka holds up', { sample: BEHIND }, 'kafka', /idle 70 %.*500,000 records/],
];

for (const [what, change, bottleneck, sentence] of cases) {
  test(`a job ${what}: ${bottleneck ?? 'no stage'}`, () => {
    const found = diagnose(viewWith(change));
    assert.equal(found.healthy, false);
    assert.equal(found.bottleneck, bottleneck, found.sentence);
    assert.match(found.sentence, sentence);
    assert.notEqual(found.knob, '');
    assert.ok(found.evidence.length > 5);
    for (const [path] of found.knob.matchAll(/spec(\.[a-zA-Z]+)+/g)) {
      let node: Schema | undefined = SCHEMA;
      for (const name of path.split('.')) node = node?.properties?.[name];
      assert.ok(node, `${path} is no field of a TriggerJob`);
    }
  });
}

test('a job that keeps pace is healthy, and so is one that has ended', () => {
  const { healthy, sentence, knob } = diagnose(viewWith({}));
  assert.deepEqual([healthy, knob], [true, '']);
  assert.match(sentence, /1,000 events\/s/);
  const ended = diagnose(viewWith({ view: { status: 'FINISHED', terminal: true } }));
  assert.deepEqual([ended.healthy, ended.sentence], [true, 'The job has ended: FINISHED.']);
});

test('a subtask is called hot by what it does now, and only beside all others', () => {
  const restarted = { ...subtask(0), recordsProcessed: 10 };
  const old = { ...subtask(1), recordsProcessed: 1_000_000 };
  const view = { subtasks: [restarted, old] };
  for (const rates of [ratesOf(500, 500), ratesOf(null, 500)]) {
    const found = diagnose(viewWith({ sample: BEHIND, view: { ...view, ...rates } }));
    assert.equal(found.bottleneck, 'kafka', found.sentence);
  }
});
