/**
 * A checker that was never seen red is no evidence: every rule goes red on a history made wrong.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { eventText, schedule } from './event-model.ts';
import { UserFold } from './fold.ts';
import type { Acked, History, Receipt, Sample, ServedUser } from './history.ts';
import { loadHistory, saveHistory } from './history.ts';
import { figureLines, violationLines } from './report.ts';
import { judge, type Rule } from './verdict.ts';

const T0 = 1_000_000;
const KILL_AT = T0 + 2_500;
const BACK_AT = T0 + 3_000;
const EVENTS = 40;
/** Offsets before this are in checkpoint 1. */
const BARRIER = 10;
const USERS = ['user-0000', 'user-0001'] as const;

const START: ServedUser = {
  profile: '{"country": "US"}',
  visit: '{"event_count":7}',
  history: ['{"n":1}', '{"n":2}'],
};

interface Planned {
  event: Acked;
  body: string;
}

function rawOf(user: string, seq: number): string {
  return `{"user_id":"${user}","seq":${seq},"triggerable":true,"event_name":"e"}`;
}

function makeEvents(): { acked: Acked[]; matching: Planned[]; dump: string[] } {
  const acked: Acked[] = [];
  const matching: Planned[] = [];
  const dump: string[] = [];
  for (const [partition, user] of USERS.entries()) {
    const fold = new UserFold(START, 100);
    for (let offset = 0; offset < EVENTS; offset++) {
      const raw = rawOf(user, offset + 1);
      const at = T0 + 100 * offset;
      const event = { user, seq: offset + 1, partition, offset, timestamp: at, raw, ackedAt: at };
      acked.push(event);
      const body = fold.apply(event);
      if (body !== null) matching.push({ event, body });
    }
    dump.push(`${fold.line(user)},"last_access":${T0 + 5_000}}`);
  }
  return { acked, matching, dump };
}

function receiptOf({ event, body }: Planned, at: number, openedAt: number): Receipt {
  return {
    at,
    openedAt,
    status: 204,
    answeredAt: at + 3,
    id: `id-${event.user}-${event.seq}`,
    ceId: `id-${event.user}-${event.seq}`,
    user: event.user,
    seq: event.seq,
    sha: createHash('sha256').update(body).digest('hex'),
    bytes: body.length,
  };
}

/** Attempt 0 delivers until the kill; attempt 1 what was in flight, then from the barrier on. */
function makeReceipts(matching: readonly Planned[]): Receipt[] {
  const receipts: Receipt[] = [];
  for (const user of USERS) {
    const own = matching.filter(({ event }) => event.user === user);
    const inFlight = own.findLast(({ event }) => event.offset < BARRIER)!;
    let clock = 0;
    const send = (planned: Planned, at: number, openedAt: number) => {
      const receipt = receiptOf(planned, Math.max(at, clock + 1), openedAt);
      clock = receipt.answeredAt!;
      receipts.push(receipt);
      return receipt;
    };
    for (const planned of own) {
      const at = planned.event.timestamp + 5;
      if (at >= KILL_AT) break;
      // Held up beyond the barrier: answered only after checkpoint 1 was triggered.
      const late = planned === inFlight ? T0 + 1_100 : at;
      // One retry within the attempt.
      if (planned.event.offset === 2) send(planned, late, T0).status = 503;
      send(planned, late, T0);
    }
    send(inFlight, BACK_AT + 10, BACK_AT);
    for (const planned of own.filter(({ event }) => event.offset >= BARRIER)) {
      send(planned, Math.max(BACK_AT + 20, planned.event.timestamp + 5), BACK_AT);
    }
  }
  return receipts.sort((a, b) => a.at - b.at);
}

function sample(at: number, pid: number, attempt: number, read: number): Sample {
  return {
    at,
    state: 'RUNNING',
    pid,
    replaced: 0,
    restarts: attempt - 1,
    restored: attempt === 1 ? null : 1,
    lastCheckpoint: 1,
    ledgerImbalance: 0,
    parked: 0,
    outbox: 0,
    lag: 0,
    rssBytes: 0,
    taskManagers: [{ pid, tasks: 2 }],
    subtasks: [0, 1].map((subtask) => ({
      subtask,
      attempt,
      cpuSeconds: 0.5,
      recordsRead: read / 2,
      recordsProcessed: read / 2,
      divergent: 0,
      usersCached: 1,
    })),
  };
}

/** `matched` of the records are matching; one per subtask waits in the outbox if `waiting`. */
function ledgers(records: number, matching: readonly Planned[], waiting: number) {
  return USERS.map((user, subtask) => {
    const matched = matching.filter(
      ({ event }) => event.user === user && event.offset < records,
    ).length;
    return {
      subtask,
      accepted: records,
      noMatch: records - matched,
      delivered: matched - waiting,
      deadLettered: 0,
      parked: 0,
      inOutbox: waiting,
    };
  });
}

function makeHistory(): History {
  const { acked, matching, dump } = makeEvents();
  const checkpoint = (
    checkpointId: number,
    triggeredAt: number,
    records: number,
    wait: number,
  ) => ({
    checkpointId,
    kind: 'checkpoint',
    triggeredAt,
    completedAt: triggeredAt + 50,
    positions: { '0': records, '1': records },
    ledgers: ledgers(records, matching, wait),
    scriptVersion: 'v1',
  });
  return {
    meta: {
      name: 'synthetic',
      seed: 1,
      dump,
      historyLimit: 100,
      slots: 2,
      taskManagers: 1,
      need: { kills: 1, phases: ['barrier'] },
      deadLettered: [],
    },
    acked,
    receipts: makeReceipts(matching),
    served: Object.fromEntries(USERS.map((user) => [user, [START]])),
    checkpoints: [checkpoint(1, T0 + 1_000, BARRIER, 1), checkpoint(2, T0 + 6_000, EVENTS, 0)],
    kills: [
      {
        at: KILL_AT,
        pid: 100,
        attempt: 1,
        reason: 'barrier',
        lateMs: 20,
        restored: 1,
        endedAt: null,
        resumedAt: null,
      },
    ],
    samples: [
      sample(KILL_AT - 900, 100, 1, 30),
      sample(KILL_AT - 100, 100, 1, 46),
      // The new process beside the last figures of the old one: must not be taken for its own.
      sample(BACK_AT - 100, 101, 1, 46),
      sample(BACK_AT + 100, 101, 2, 10),
      sample(T0 + 6_000, 101, 2, 60),
    ],
  };
}

const repeated = (history: History): Receipt =>
  history.receipts.find((one) => one.openedAt === BACK_AT && one.seq === BARRIER + 2)!;

/** Each breaks a green history in one way; the rule must name it. */
const BREAKS: [name: string, rule: Rule, change: (history: History) => void][] = [
  [
    'an event delivered by no one',
    'lost',
    (h) => {
      const { user, seq } = h.receipts.at(-1)!;
      h.receipts = h.receipts.filter((one) => one.user !== user || one.seq !== seq);
    },
  ],
  [
    'an event only answered 503',
    'lost',
    (h) => {
      const { user, seq } = h.receipts.at(-1)!;
      for (const one of h.receipts) if (one.user === user && one.seq === seq) one.status = 503;
    },
  ],
  [
    'a delivery of no acknowledged event',
    'invented',
    (h) => {
      h.receipts.push({
        ...h.receipts.at(-1)!,
        seq: EVENTS + 1,
        id: 'x',
        ceId: 'x',
        at: T0 + 9_000,
      });
    },
  ],
  [
    'a delivery that does not match',
    'invented',
    (h) => {
      const delivered = new Set(h.receipts.map((one) => `${one.user}/${one.seq}`));
      const other = h.acked.find((one) => !delivered.has(`${one.user}/${one.seq}`))!;
      const { user, seq } = other;
      h.receipts.unshift({ ...h.receipts[0]!, user, seq, id: 'x', ceId: 'x', at: T0 - 1 });
    },
  ],
  [
    'another id at the repeat',
    'id',
    (h) => {
      Object.assign(repeated(h), { id: 'other', ceId: 'other' });
    },
  ],
  [
    'one id for two events',
    'id',
    (h) => {
      const [first, second] = [h.receipts[0]!, h.receipts.at(-1)!];
      Object.assign(second, { id: first.id, ceId: first.id });
    },
  ],
  [
    'a ce-id unlike the webhook-id',
    'id',
    (h) => {
      h.receipts[0]!.ceId = 'other';
    },
  ],
  [
    'no id',
    'id',
    (h) => {
      for (const one of h.receipts) if (one.seq === h.receipts[0]!.seq) one.id = '';
    },
  ],
  [
    "a body that is not the fold's",
    'body',
    (h) => {
      h.receipts[0]!.sha = 'f'.repeat(64);
    },
  ],
  [
    'a repeat with another body and a constant API',
    'divergent',
    (h) => {
      repeated(h).sha = 'f'.repeat(64);
    },
  ],
  [
    'a repeat after a 2xx in the same attempt',
    'repeat',
    (h) => {
      const last = h.receipts.at(-1)!;
      h.receipts.push({ ...last, at: last.at + 10, answeredAt: last.at + 12 });
    },
  ],
  [
    'a repeat from before the barrier, delivered long before it',
    'repeat',
    (h) => {
      const first = h.receipts[0]!;
      first.answeredAt = T0 - 500;
      const at = BACK_AT + 1;
      h.receipts.push({ ...first, at, openedAt: BACK_AT, answeredAt: at + 1 });
      h.checkpoints[0]!.ledgers[0]!.inOutbox += 10;
    },
  ],
  [
    'more in-flight repeats than the ledgers held',
    'repeat',
    (h) => {
      for (const ledger of h.checkpoints[0]!.ledgers) {
        ledger.delivered += ledger.inOutbox;
        ledger.inOutbox = 0;
      }
    },
  ],
  [
    'a replay that the restored position does not cover',
    'repeat',
    (h) => {
      h.checkpoints[0]!.positions = { '0': 24, '1': 24 };
    },
  ],
  [
    "a user's first deliveries swapped",
    'order',
    (h) => {
      const own = h.receipts.filter((one) => one.user === USERS[0]);
      const [a, b] = [own.at(-2)!, own.at(-1)!];
      h.receipts = h.receipts.filter((one) => one !== a && one !== b).concat(b, a);
    },
  ],
  [
    'an older event again within one attempt',
    'order',
    (h) => {
      const own = h.receipts.filter((one) => one.openedAt === BACK_AT && one.user === USERS[0]);
      const index = h.receipts.indexOf(own[1]!);
      h.receipts.splice(index + 2, 0, { ...own[0]! });
    },
  ],
  [
    'two deliveries of a user at once',
    'overlap',
    (h) => {
      const own = h.receipts.filter((one) => one.user === USERS[0]);
      own.at(-2)!.answeredAt = own.at(-1)!.at + 1;
    },
  ],
  [
    'a user missing from the dump',
    'state',
    (h) => {
      h.meta.dump!.pop();
    },
  ],
  [
    'a user that never had an event',
    'state',
    (h) => {
      h.meta.dump!.push(h.meta.dump![1]!.replaceAll('user-0001', 'user-0002'));
    },
  ],
  [
    'a user dumped twice',
    'state',
    (h) => {
      h.meta.dump!.push(h.meta.dump![1]!);
    },
  ],
  [
    'a dump that is not sorted',
    'state',
    (h) => {
      h.meta.dump!.reverse();
    },
  ],
  [
    'one event applied twice',
    'state',
    (h) => {
      h.meta.dump![0] = h.meta.dump![0]!.replace('"event_count":47', '"event_count":48');
    },
  ],
  [
    'a profile printed anew',
    'state',
    (h) => {
      h.meta.dump![0] = h.meta.dump![0]!.replace('"country": "US"', '"country":"US"');
    },
  ],
  [
    'a line without last_access',
    'state',
    (h) => {
      h.meta.dump![0] = h.meta.dump![0]!.replace(/,"last_access":\d+/, '');
    },
  ],
  [
    'a ledger that does not balance',
    'checkpoint',
    (h) => {
      h.checkpoints[0]!.ledgers[0]!.noMatch++;
    },
  ],
  [
    'a record accepted beyond the positions',
    'checkpoint',
    (h) => {
      h.checkpoints[0]!.ledgers[0]!.noMatch++;
      h.checkpoints[0]!.ledgers[0]!.accepted++;
    },
  ],
  [
    'a position beyond the end of the topic',
    'checkpoint',
    (h) => {
      h.checkpoints[1]!.positions['0'] = EVENTS + 1;
    },
  ],
  [
    'a position that went back',
    'checkpoint',
    (h) => {
      h.checkpoints[1]!.positions['0'] = 3;
    },
  ],
  [
    'records that no checkpoint covers',
    'drain',
    (h) => {
      h.checkpoints.pop();
    },
  ],
  [
    'an outbox that is not empty at the end',
    'drain',
    (h) => {
      h.checkpoints[1]!.ledgers[0]!.inOutbox = 1;
    },
  ],
  [
    'a restore older than the newest checkpoint',
    'restore',
    (h) => {
      h.checkpoints[1]!.completedAt = KILL_AT - 10;
    },
  ],
  [
    'a restore from a checkpoint the log does not name',
    'restore',
    (h) => {
      h.kills[0]!.restored = 77;
    },
  ],
  [
    'an attempt that no kill explains',
    'restart',
    (h) => {
      h.samples.push(sample(T0 + 6_100, 101, 3, 60));
    },
  ],
  [
    'a process that no kill explains',
    'restart',
    (h) => {
      h.samples.push(sample(T0 + 6_100, 102, 3, 60));
    },
  ],
  [
    'too few counting kills',
    'coverage',
    (h) => {
      h.meta.need!.kills = 2;
    },
  ],
  [
    'a kill with nothing read in the second before',
    'coverage',
    (h) => {
      h.samples[1]!.subtasks = h.samples[0]!.subtasks;
      h.receipts = h.receipts.filter((one) => one.at < KILL_AT - 1_000 || one.at > KILL_AT);
    },
  ],
  [
    'a phase without a kill',
    'coverage',
    (h) => {
      h.meta.need!.phases = ['barrier', 'upload'];
    },
  ],
  [
    'a phase kill that came too late for its phase',
    'coverage',
    (h) => {
      h.kills[0]!.lateMs = 140;
    },
  ],
  [
    'no replay',
    'coverage',
    (h) => {
      h.meta.need = { kills: 0, phases: [] };
      h.kills = [];
    },
  ],
  [
    'no repeat',
    'coverage',
    (h) => {
      const seen = new Set<string>();
      h.receipts = h.receipts.filter(
        (one) => one.status === 204 && !seen.has(one.id) && seen.add(one.id),
      );
    },
  ],
  [
    'a slot that did nothing',
    'coverage',
    (h) => {
      for (const one of h.samples) one.subtasks[1]!.recordsProcessed = 0;
    },
  ],
];

describe('the verdict', () => {
  it('is green on a history with a retry, replays and in-flight repeats, and counts them', () => {
    const verdict = judge(makeHistory());
    assert.deepEqual(violationLines(verdict.violations), []);
    const { repeats, kills, divergentCounted } = verdict.figures;
    assert.equal(repeats.retry, 2);
    assert.equal(repeats['in-flight'], 2);
    assert.ok(repeats.replay > 0);
    assert.equal(divergentCounted, 0);
    assert.equal(kills[0]!.counts, true);
    // Read 46 at the last look, 20 of them in the checkpoint; deliveries may prove a few more.
    assert.ok(kills[0]!.replayed >= 26 && kills[0]!.replayed <= 30, `${kills[0]!.replayed}`);
    assert.ok(figureLines(verdict).some((line) => line.includes('counting 1')));
  });

  for (const [name, rule, change] of BREAKS) {
    it(`goes red (${rule}) on ${name}`, () => {
      const history = makeHistory();
      change(history);
      const rules = new Set(judge(history).violations.map((one) => one.rule));
      assert.ok(rules.has(rule), `red only for: ${[...rules].join(', ') || 'nothing'}`);
    });
  }

  it('allows a repeat with another body if the API answered otherwise and it was counted', () => {
    const history = makeHistory();
    const other = { ...START, profile: '{"country": "US","fetch":2}' };
    history.served[USERS[0]] = [START, other];
    const changed = history.receipts.findLast(
      (one) => one.user === USERS[0] && one.openedAt === BACK_AT && one.seq === 12,
    )!;
    const fold = new UserFold(other, 100);
    for (const event of history.acked.filter((one) => one.user === USERS[0])) {
      const body = fold.apply(event);
      if (event.seq === changed.seq) changed.sha = createHash('sha256').update(body!).digest('hex');
    }
    assert.deepEqual(
      judge(history).violations.map((one) => one.rule),
      ['divergent'],
      'not counted by the pipeline',
    );
    const { violations } = judge({ ...history, samples: [] });
    assert.ok(!violations.some(({ rule }) => rule === 'divergent'), 'nobody looked at the counter');
    history.samples.at(-1)!.subtasks[0]!.divergent = 1;
    assert.deepEqual(judge(history).violations, []);
  });

  it('hands an in-flight entry on through a second checkpoint of the next attempt', () => {
    const history = makeHistory();
    const held = history.receipts.find((one) => one.openedAt === BACK_AT)!;
    // Killed again before it was answered; checkpoint 2 of attempt 1 still held it.
    const again = { ...held, at: BACK_AT + 5_000, openedAt: BACK_AT + 4_900 };
    held.status = null;
    held.answeredAt = null;
    history.receipts.push({ ...again, answeredAt: again.at + 1 });
    const second = structuredClone(history.checkpoints[0]!);
    second.checkpointId = 2;
    second.triggeredAt = BACK_AT + 2_000;
    second.completedAt = BACK_AT + 2_050;
    history.checkpoints[1]!.checkpointId = 3;
    history.checkpoints[1]!.triggeredAt = BACK_AT + 6_000;
    history.checkpoints.splice(1, 0, second);
    history.kills.push({
      at: BACK_AT + 4_500,
      pid: 101,
      attempt: 2,
      reason: 'random',
      lateMs: null,
      restored: 2,
      endedAt: null,
      resumedAt: null,
    });
    const repeats = judge(history).violations.filter((one) => one.rule === 'repeat');
    assert.deepEqual(repeats, []);
  });

  it('counts what survivors send until the job is told to restart to the old attempt', () => {
    const history = makeHistory();
    const replayed = repeated(history);
    const first = history.receipts.find((one) => one.id === replayed.id && one !== replayed)!;
    // A connection that a surviving TaskManager opened after the kill of another one.
    first.openedAt = KILL_AT + 150;
    first.at = KILL_AT + 200;
    first.answeredAt = KILL_AT + 203;
    const repeats = () => judge(history).violations.filter((one) => one.rule === 'repeat');
    assert.match(repeats()[0]?.message ?? '', /sent again by attempt 1 after a 2xx/);
    history.kills[0]!.endedAt = KILL_AT + 300;
    assert.deepEqual(repeats(), []);
  });

  it('allows what a woken process sends beside its successor, and nothing later', () => {
    const history = makeHistory();
    const last = history.receipts.at(-1)!;
    const openedAt = BACK_AT + 2_000;
    const at = Math.max(last.at, openedAt) + 10;
    history.receipts.push({ ...last, openedAt, at, answeredAt: at + 2 });
    history.kills[0]!.resumedAt = openedAt - 100;
    const verdict = judge(history);
    assert.deepEqual(violationLines(verdict.violations), []);
    assert.equal(verdict.figures.repeats.overlap, 1);
    history.kills[0]!.resumedAt = openedAt - 1_100;
    assert.ok(judge(history).violations.some((one) => one.rule === 'repeat'));
  });

  it('knows by its address what a TaskManager that was cut off sends, and nothing later', () => {
    const history = makeHistory();
    const last = history.receipts.at(-1)!;
    const openedAt = BACK_AT + 2_000;
    const at = Math.max(last.at, openedAt) + 10;
    history.receipts.push({ ...last, openedAt, at, answeredAt: at + 2, from: '10.231.0.10' });
    const red = (address: string, until: number) => {
      history.kills[0]!.cut = { addresses: [address], until };
      return judge(history).violations.map(({ rule }) => rule);
    };
    assert.deepEqual(red('10.231.0.10', openedAt + 500), []);
    assert.deepEqual(red('10.231.0.10', openedAt - 500), ['repeat']);
    assert.deepEqual(red('10.231.0.11', openedAt + 500), ['repeat']);
  });

  it('knows of a delivery beside a woken process when it comes again', () => {
    const history = makeHistory();
    const beside = history.receipts.filter(({ openedAt }) => openedAt === BACK_AT);
    const last = beside.findLast((one) => one.seq > 1)!;
    const before = beside.findLast(({ user, seq }) => user === last.user && seq < last.seq)!;
    // The one came only beside the woken process, the other only later.
    history.receipts = history.receipts.filter(({ id }) => id !== before.id && id !== last.id);
    history.receipts.push(before);
    history.kills[0]!.resumedAt = BACK_AT - 100;
    const again = (one: Receipt, openedAt: number) =>
      history.receipts.push({ ...one, openedAt, at: openedAt + 1, answeredAt: openedAt + 2 });
    again(last, BACK_AT + 2_000);
    history.kills.push({ ...history.kills[0]!, at: BACK_AT + 4_500, attempt: 2, resumedAt: null });
    again(before, BACK_AT + 6_000);
    const order = () => judge(history).violations.filter((one) => one.rule === 'order');
    assert.deepEqual(order(), []);
    history.receipts = history.receipts.filter((one) => one !== before);
    assert.match(order()[0]?.message ?? '', /first delivered after/);
  });

  it('asks for the freezes of the plan beside the kills', () => {
    const history = makeHistory();
    history.meta.need!.freezes = 1;
    const coverage = judge(history).violations.filter((one) => one.rule === 'coverage');
    assert.match(coverage[0]?.message ?? '', /0 freezes count, at least 1 must/);
  });

  it('judges a history read back from its file the same', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'triggerjob-history-'));
    try {
      const history = makeHistory();
      history.receipts.pop();
      const file = join(folder, 'history.ndjson.gz');
      await saveHistory(file, history);
      const read = await loadHistory(file);
      assert.deepEqual(read, history);
      assert.deepEqual(judge(read), judge(history));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('the event model', () => {
  it('gives each user every sequence number once, in order, in one partition', () => {
    const due = schedule({
      seed: 3,
      users: 20,
      eventsPerUser: 50,
      durationMs: 1000,
      partitions: 4,
    });
    assert.equal(due.length, 1000);
    for (const own of Map.groupBy(due, (one) => one.user).values()) {
      assert.deepEqual(
        own.map((one) => one.seq),
        Array.from({ length: 50 }, (_, index) => index + 1),
      );
      assert.equal(new Set(own.map((one) => one.partition)).size, 1);
    }
  });

  it('makes events that are JSON with the user and the sequence number', () => {
    for (let seq = 1; seq <= 200; seq++) {
      const event = JSON.parse(eventText(9, 'user-0042', seq));
      assert.equal(event.user_id, 'user-0042');
      assert.equal(event.seq, seq);
    }
  });
});
