import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { Env } from './env.ts';
import { createLog } from './log.ts';
import { readableLine } from './readable-log.ts';
import { redacted } from './redaction.ts';

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const timers: { at: number; fn: () => void }[] = [];
  const clock = { now: 0 };
  const env: Env = {
    now: () => clock.now,
    monotonic: () => clock.now,
    random: () => 0,
    id: () => '',
    timer: (delayMs, fn) => {
      timers.push({ at: clock.now + delayMs, fn });
      return { cancel: () => undefined };
    },
  };
  const advance = (ms: number) => {
    clock.now += ms;
    for (const { fn } of timers.splice(0).filter(({ at }) => at <= clock.now)) fn();
  };
  const to = { write: (line: string) => lines.push(JSON.parse(line)) };
  const log = createLog('slot-1', { env, to, level: 'debug', job: 'a/b', subtask: 3, attempt: 2 });
  return { log, lines, advance };
}

describe('the log', () => {
  it('bears what its lines are about', () => {
    const { log, lines } = setUp();
    log.info({ checkpointId: 7 }, 'checkpoint');
    log.warn('alone');
    log.debug({ phase: 'sealed' });
    const { component, job, subtask, attempt, checkpointId, msg } = lines[0]!;
    assert.deepEqual(
      [component, job, subtask, attempt, checkpointId, msg],
      ['slot-1', 'a/b', 3, 2, 7, 'checkpoint'],
    );
    assert.deepEqual([lines[1]!['msg'], lines[2]!['msg']], ['alone', undefined]);
  });

  it("takes out credentials and users' data, however deep, and in texts", () => {
    const { log, lines } = setUp();
    const secret = 'hunter2';
    log.warn(
      {
        headers: { Authorization: `Bearer ${secret}`, 'x-api-key': secret, accept: 'json' },
        list: [{ password: secret }],
        event: { user_id: secret },
        profile: `{"name":"${secret}"}`,
        url: `https://me:${secret}@host/path`,
        buffer: Buffer.from(secret),
        err: new Error(`Bearer ${secret} refused`, { cause: new Error(`s3://u:${secret}@b`) }),
        tokenFile: '/etc/token',
      },
      `asked http://u:${secret}@h`,
    );
    assert.doesNotMatch(JSON.stringify(lines), /hunter2/);
    const { headers, tokenFile, err, msg } = lines[0]!;
    assert.equal((headers as { accept: string }).accept, 'json');
    assert.equal(tokenFile, '/etc/token');
    assert.match((err as { message: string }).message, /^Bearer \*\*\* refused/);
    assert.match((err as { stack: string }).stack, /log\.test\.ts/);
    assert.equal(msg, 'asked http://***@h');
  });

  it('counts a message that is repeated, and says how many were left out', () => {
    const { log, lines, advance } = setUp();
    for (let n = 0; n < 100; n++) log.warn({ n }, 'the webhook fails');
    assert.equal(lines.length, 20);
    log.warn({ taskManager: 'tm-2' }, 'the webhook fails');
    log.error('the webhook fails');
    log.fatal('another');
    assert.equal(lines.length, 23, 'another thing, level or message has a count of its own');
    advance(10_000);
    assert.equal(lines.length, 24);
    const { msg, suppressed, level } = lines[23]!;
    assert.deepEqual([msg, suppressed, level], ['the webhook fails', 80, 40]);
    log.warn('the webhook fails');
    assert.equal(lines[24]!['suppressed'], undefined, 'told once');
    for (let n = 0; n < 100; n++) log.debug('a trace that was asked for');
    assert.equal(lines.length, 125);
  });
});

describe('the readable form', () => {
  const entry = { level: 40, time: 0, component: 'slot-1', pid: 9, job: 'a/b', subtask: 3 };

  it('has time, level, component, message and fields, and colour only where it is wanted', () => {
    const line = JSON.stringify({ ...entry, error: 'a b', msg: 'it fails' });
    const text = '00:00:00.000 warn  slot-1 it fails subtask=3 error="a b"\n';
    assert.equal(readableLine(line, false), text);
    const colored = readableLine(line, true);
    assert.ok(colored.includes('\u001b[33mwarn \u001b[0m'), colored);
    assert.equal(stripVTControlCharacters(colored), text);
  });

  it('shows a stack as one, and other text as it is', () => {
    const err = { type: 'Error', message: 'm', stack: 'Error: m\n    at x' };
    const line = JSON.stringify({ level: 50, time: 0, component: 'c', err, msg: 'slot failed' });
    assert.match(readableLine(line, false), /slot failed err=\nError: m\n {4}at x\n$/);
    assert.equal(readableLine('no JSON\n', false), 'no JSON\n');
  });
});

describe('redaction', () => {
  it('knows credentials by name, and leaves references to them', () => {
    const given = {
      signingSecretRef: { name: 'x', key: 'secret' },
      credentialsRef: 'ref',
      'proxy-authorization': 'a',
      awsSecretKey: 'a',
      token: 'a',
      'X-Auth-Token': 'a',
      keyBy: 'user_id',
      passwordFile: '/p',
    };
    assert.deepEqual(redacted(given), {
      ...given,
      'proxy-authorization': '***',
      awsSecretKey: '***',
      token: '***',
      'X-Auth-Token': '***',
    });
  });
});
