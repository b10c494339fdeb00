/** What the pages show, without a browser: formats, links, and the models behind the views. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type {
  Details,
  Exceptions,
  Explanation,
  JobDetail,
  SubtaskDetail,
  TaskManagerDetail,
  TraceNode,
} from './browser/api-types.ts';
import { EventStreamParser } from './browser/event-stream.ts';
import { timelineOf } from './browser/exception-model.ts';
import { parseObject, traceLines, valueText } from './browser/explain-model.ts';
import { age, ago, bytes, compact, duration, exact, percent } from './browser/format.ts';
import { operationState } from './browser/operation-model.ts';
import { hrefOf, PAGES, parseRoute } from './browser/route.ts';
import { chartInWords, chartsOf, latestOf } from './browser/series-model.ts';
import { Spans } from './browser/span.ts';
import { hotSubtasks, stagesOf } from './browser/stage-model.ts';
import { NOTHING_SEEN, tapPath, tapState } from './browser/tap-model.ts';
import { cpuOf, threadsOf } from './browser/worker-model.ts';

test('numbers are short, and exact where somebody points', () => {
  const counts = [0, 7, 950, 999.6, 1_000, 12_345, 999_960, 4_060_000].map(compact);
  assert.deepEqual(counts, ['0', '7', '950', '1k', '1k', '12.3k', '1M', '4.06M']);
  assert.deepEqual([0.123, 7.5, 42.42].map(compact), ['0.12', '7.5', '42.4']);
  const sizes = [0, 1023, 1024, 1_048_575, 5 * 1024 ** 3].map(bytes);
  assert.deepEqual(sizes, ['0 B', '1023 B', '1 KiB', '1 MiB', '5 GiB']);
  const times = [0, 0.42, 850, 1_240, 48_000, 59_999, 250_000, 11_100_000, 187_200_000];
  const shown = ['0 ms', '0.42 ms', '850 ms', '1.2 s', '48 s', '1 min', '4 min 10 s'];
  assert.deepEqual(times.map(duration), [...shown, '3 h 5 min', '2 d 4 h']);
  assert.deepEqual([0, 0.004, 0.5, 1].map(percent), ['0 %', '0.4 %', '50 %', '100 %']);
  assert.equal(exact(1_234_567.8901, 'events/s'), '1,234,567.89 events/s');
  assert.deepEqual([age(5_900), age(65_400)], ['5 s', '1 min 5 s']);
  assert.deepEqual(
    [ago(1_000, 2_000), ago(1_000, 7_900), ago(0, 9)].join(),
    'just now,6 s ago,never',
  );
});

test('what is not known is said so, never NaN', () => {
  for (const unknown of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) {
    const all = [compact, bytes, duration, percent, age].map((format) => format(unknown));
    assert.deepEqual(new Set(all), new Set(['-']));
    assert.equal(exact(unknown), 'not known');
  }
  assert.equal(bytes(-1), '-');
});

test('each page has a link that leads back to it', () => {
  const query = { user: 'ann/ü &=#?', stage: 'matched' };
  for (const { id } of PAGES) {
    const route = parseRoute(hrefOf(id, 'job 1/2', query));
    const without = id === 'jobs' || id === 'taskmanagers';
    assert.deepEqual(route, { page: id, jobId: without ? null : 'job 1/2', query });
  }
  assert.equal(new Set(PAGES.map(({ key }) => key)).size, PAGES.length);
  for (const lost of ['', '#', '#/', '#/nowhere', '#/jobs/a/users/b', '#/taskmanagers/x']) {
    assert.equal(parseRoute(lost).page, 'jobs', lost);
  }
  assert.deepEqual(parseRoute('#/jobs/%zz/nowhere'), { page: 'job', jobId: '%zz', query: {} });
});

const SUBTASK: SubtaskDetail = {
  subtask: 0,
  attempt: 1,
  slot: 0,
  cpuSeconds: 0,
  recordsRead: 0,
  recordsProcessed: 0,
  matched: 0,
  delivered: 0,
  parked: 0,
  outbox: 0,
  users: 1,
  stateBytes: 10,
  cacheBytes: 0,
  pendingRecords: -1,
  busyMs: 0,
  backPressuredMs: 0,
  idleMs: 0,
  restoreMs: 0,
  pauseMaxMs: 0,
  extra: {},
};

function detailsAt(now: number, subtasks: SubtaskDetail[], more: Partial<Details> = {}): Details {
  const tasks = subtasks.map(({ subtask }) => ({ subtask, taskManagerId: `tm-${subtask % 2}` }));
  return { now, subtasks, tasks, lag: 12, parked: 3, taskManagers: [], ...more } as Details;
}

function jobAt(now: number, read: number, busy: number, backPressured = 0): JobDetail {
  const metrics = {
    'read-records': read,
    'write-records': read / 2,
    'accumulated-busy-time': busy,
    'accumulated-backpressured-time': backPressured,
  };
  const vertex = { id: 'v', name: 'Source', parallelism: 2, status: 'RUNNING', metrics };
  return { now, vertices: [vertex] } as unknown as JobDetail;
}

test('a stage shows what happened between two answers', () => {
  const details = detailsAt(5_000, []);
  const [stage] = stagesOf(
    { before: jobAt(1_000, 100, 1_000), now: jobAt(5_000, 500, 5_000) },
    details,
  );
  assert.equal(stage?.inPerSecond, 100);
  assert.equal(stage?.outPerSecond, 50);
  assert.equal(stage?.busy, 0.5, '4 s of two threads that had 8');
  assert.equal(stage?.pressure, 'warm');
  assert.deepEqual(stage?.queue, [{ label: 'records behind', value: 12 }]);
  const [waits] = stagesOf({ before: jobAt(0, 0, 0), now: jobAt(1_000, 0, 0, 1_900) }, details);
  assert.equal(waits?.pressure, 'hot');
});

test('before a second answer, and over a restart, a rate is not known', () => {
  const details = detailsAt(5_000, []);
  const [first] = stagesOf({ before: null, now: jobAt(1_000, 100, 10) }, details);
  const [fresh] = stagesOf(
    { before: jobAt(1_000, 100, 10, 9), now: jobAt(2_000, 5, 1, 2) },
    details,
  );
  for (const stage of [first, fresh]) {
    assert.deepEqual([stage?.inPerSecond, stage?.busy, stage?.pressure], [null, null, 'unknown']);
  }
});

test('subtasks: the busiest first, a new attempt not compared with an old one', () => {
  const before = detailsAt(0, [SUBTASK, { ...SUBTASK, subtask: 1 }, { ...SUBTASK, subtask: 2 }]);
  const now = detailsAt(2_000, [
    { ...SUBTASK, busyMs: 200, recordsProcessed: 10 },
    { ...SUBTASK, subtask: 1, busyMs: 1_800, cpuSeconds: 1, pendingRecords: 7 },
    { ...SUBTASK, subtask: 2, attempt: 2, busyMs: 1_999 },
  ]);
  const rows = hotSubtasks({ before, now });
  assert.deepEqual(
    rows.map(({ subtask, busy, behind }) => [subtask, busy, behind]),
    [
      [1, 0.9, 7],
      [0, 0.1, null],
      [2, null, null],
    ],
  );
  assert.equal(rows[1]?.eventsPerSecond, 5);
  const threads = threadsOf('tm-1', { before, now });
  assert.deepEqual(
    threads.map(({ metrics, cpu, busy }) => [metrics.subtask, cpu, busy]),
    [[1, 0.5, 0.9]],
  );
});

test('CPU of a process is not told across its restart', () => {
  const process = { id: 'tm', pid: 7, cpuSeconds: 9 } as TaskManagerDetail;
  const was = (pid: number) =>
    detailsAt(1_000, [], { taskManagers: [{ ...process, pid, cpuSeconds: 6 }] });
  const now = detailsAt(3_000, [], { taskManagers: [process] });
  assert.equal(cpuOf(process, { before: was(7), now }), 1.5);
  assert.equal(cpuOf(process, { before: was(8), now }), null);
  assert.equal(cpuOf(process, { before: null, now }), null);
});

test('rates are over some ten seconds, and never over an absence', () => {
  const spans = new Spans<{ now: number }>();
  const befores = [0, 2, 4, 6, 8, 10, 12, 14, 100, 102, 50].map((second) => {
    const before = spans.add({ now: second * 1_000 }).before;
    return before === null ? null : before.now / 1_000;
  });
  assert.deepEqual(befores, [null, 0, 0, 0, 0, 0, 2, 4, null, 100, null]);
});

test('exceptions: what differs in numbers alone is one incident', () => {
  const entry = (timestamp: number, stacktrace: string, taskName: string | null = null) => ({
    exceptionName: 'TASKMANAGER_LOST',
    stacktrace,
    timestamp,
    taskName,
    taskManagerId: 'tm-1',
  });
  const exceptions: Exceptions = {
    exceptionHistory: {
      truncated: true,
      entries: [
        entry(10, 'TaskManager 1b3f99aa with subtask 0 is lost after 500 ms', 'subtask 0'),
        entry(30, 'TaskManager 77aa99bbcc with subtask 1, 2, 3 is lost after 20.5 ms'),
        entry(20, 'the disk is full'),
      ],
    },
    firstCause: { timestamp: 5, code: 'DISK', message: 'no space' },
  };
  const { firstCause, incidents, truncated } = timelineOf(exceptions);
  assert.deepEqual(firstCause, { at: 5, code: 'DISK', message: 'no space' });
  assert.equal(truncated, true);
  assert.deepEqual(
    incidents.map(({ count, firstAt, lastAt }) => [count, firstAt, lastAt]),
    [
      [2, 10, 30],
      [1, 20, 20],
    ],
  );
  assert.deepEqual(incidents[0]?.where, ['tm-1', 'subtask 0']);
  assert.match(incidents[0]?.message ?? '', /1, 2, 3/, 'the newest one is shown');
});

test('server-sent events, whatever pieces they come in', () => {
  const text =
    ': hello\n\nevent: record\ndata: {"a":1}\n\ndata: two\r\ndata: lines\r\n\r\nevent: none\n\n';
  const whole = [
    { event: 'record', data: '{"a":1}' },
    { event: 'message', data: 'two\nlines' },
  ];
  assert.deepEqual(new EventStreamParser().push(text), whole);
  for (let size = 1; size < 8; size += 1) {
    const parser = new EventStreamParser();
    const pieces = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
    assert.deepEqual(
      pieces.flatMap((piece) => parser.push(piece)),
      whole,
      `pieces of ${size}`,
    );
  }
  assert.throws(() => new EventStreamParser().push('x'.repeat(5_000_000)), /without an end/);
});

test('the tap keeps the newest, counts what was passed over, and skips what it cannot read', () => {
  const record = (n: number) => ({ event: 'record', data: JSON.stringify({ userId: `u${n}` }) });
  const odd = [
    { event: 'skipped', data: '{"count":40}' },
    { event: 'record', data: 'no json' },
    { event: 'another', data: '{}' },
  ];
  const first = tapState(NOTHING_SEEN, [record(1), ...odd, record(2)]);
  assert.deepEqual(
    first.rows.map(({ record: { userId } }) => userId),
    ['u2', 'u1'],
  );
  assert.deepEqual([first.seen, first.skipped], [2, 40]);
  const many = tapState(
    first,
    Array.from({ length: 1_000 }, (_, n) => record(n)),
  );
  assert.deepEqual(
    [many.rows.length, many.seen, many.rows[0]?.record.userId],
    [300, 1_002, 'u999'],
  );
  assert.equal(new Set(many.rows.map(({ id }) => id)).size, 300);
  assert.equal(tapPath('j', '', ''), 'api/v1/jobs/j/tap');
  assert.equal(tapPath('j', 'matched', 'a b&c'), 'api/v1/jobs/j/tap?stage=matched&user=a+b%26c');
});

test('operations: in progress, complete, failed', () => {
  const running = operationState('savepoint', {
    status: { id: 'IN_PROGRESS' },
    progress: { 'copied-bytes': 25, 'total-bytes': 100 },
  });
  assert.deepEqual(running, { kind: 'running', asked: 'savepoint', ratio: 0.25, copied: 25 });
  const begun = operationState('checkpoint', { status: { id: 'IN_PROGRESS' } });
  assert.deepEqual(begun, { kind: 'running', asked: 'checkpoint', ratio: null, copied: null });
  const status = { id: 'COMPLETED' };
  const done = operationState('savepoint', { status, operation: { location: 's3://b/x' } });
  assert.deepEqual(done, {
    kind: 'done',
    asked: 'savepoint',
    location: 's3://b/x',
    checkpointId: null,
  });
  const cause = { 'stack-trace': 'no rights' };
  for (const operation of [{ 'failure-cause': cause }, { failureCause: cause }]) {
    const failed = operationState('savepoint', { status, operation });
    assert.deepEqual(failed, { kind: 'failed', asked: 'savepoint', reason: 'no rights' });
  }
});

test('a trace as lines, the deciding clause marked', () => {
  const clause = (text: string, column: number, value: unknown, children: TraceNode[] = []) => ({
    text,
    line: 1,
    column,
    value,
    children,
  });
  const right = clause('user.country == "US"', 12, false, [clause('user.country', 12, 'DE')]);
  const explanation: Explanation = {
    verdict: 'no-match',
    value: false,
    error: null,
    scriptVersion: 'v',
    trace: clause('a && user.country == "US"', 1, false, [clause('a', 1, true), right]),
    deciding: { text: right.text, line: 1, column: 12, value: false },
  };
  assert.deepEqual(
    traceLines(explanation).map(({ depth, value, tone, deciding }) => [
      depth,
      value,
      tone,
      deciding,
    ]),
    [
      [0, 'false', 'false', false],
      [1, 'true', 'true', false],
      [1, 'false', 'false', true],
      [2, '"DE"', 'plain', false],
    ],
  );
  assert.equal(valueText('x'.repeat(500)).length, 163);
  const huge = clause(
    'x',
    1,
    1,
    Array.from({ length: 1_000 }, () => clause('y', 2, 2)),
  );
  assert.equal(traceLines({ ...explanation, trace: huge }).length, 400);
});

test('a pasted event is a JSON object, or the fault is named', () => {
  assert.deepEqual(parseObject('{"a":1}', 'The event'), { value: { a: 1 } });
  const faultOf = (text: string) => {
    const parsed = parseObject(text, 'The event');
    return 'fault' in parsed ? parsed.fault : '';
  };
  assert.match(faultOf('  '), /^The event is empty/);
  assert.match(faultOf('[1]'), /^The event must be a JSON object/);
  assert.match(faultOf('{"a"'), /^The event is no JSON: /);
});

test('charts: only those with figures, and in words', () => {
  const series = {
    stepSeconds: 5,
    at: [1, 2, 3],
    series: {
      lagRecords: [5, null, 2_000],
      busyRatio: [null, null, null],
      latencyP99Seconds: [0.25],
    },
  };
  const charts = chartsOf(series);
  assert.deepEqual(
    charts.map(({ title, lines }) => [title, lines.length]),
    [
      ['Latency, Kafka append to 2xx', 1],
      ['Records behind', 1],
    ],
  );
  assert.equal(chartInWords(charts[1]!), 'Records behind: lag now 2k, from 5 to 2k');
  assert.equal(charts[0]?.format(0.25), '250 ms');
  assert.equal(latestOf(series, 'lagRecords'), 2_000);
  assert.equal(latestOf(series, 'nothing'), null);
  assert.equal(latestOf(null, 'lagRecords'), null);
});
