/** What Argo CD shows of a TriggerJob, and does with it: argocd/, run by a Lua interpreter. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

/** What is used of the Lua interpreter, which comes without types. */
interface Fengari {
  to_luastring(text: string): Uint8Array;
  lauxlib: {
    luaL_newstate(): object;
    /** 0: it ran; else the message is on top of the stack. */
    luaL_dostring(state: object, code: Uint8Array): number;
  };
  lualib: { luaL_openlibs(state: object): void };
  lua: { lua_tojsstring(state: object, index: number): string };
}

const fengari = createRequire(import.meta.url)('fengari') as Fengari;
const { lauxlib, lua, lualib, to_luastring } = fengari;

const fileOf = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../argocd/${name}`, import.meta.url)), 'utf8');
const HEALTH = fileOf('health.lua');

type Json = string | number | boolean | Json[] | { [key: string]: Json };

/** The value as a Lua expression. */
function literal(value: Json): string {
  if (Array.isArray(value)) return `{${value.map(literal).join(', ')}}`;
  if (typeof value !== 'object') return JSON.stringify(value);
  const fields = Object.entries(value).map(
    ([key, child]) => `[${literal(key)}] = ${literal(child)}`,
  );
  return `{${fields.join(', ')}}`;
}

/**
 * As Argo CD calls it: `obj` is a global, the table that is returned (`result` for `expression`)
 * says all.
 */
function evaluated(script: string, object: Json, expression: string): string {
  const state = lauxlib.luaL_newstate();
  lualib.luaL_openlibs(state);
  const call = `obj = ${literal(object)}
    local result = (function()\n${script}\nend)()
    return ${expression}`;
  const failed = lauxlib.luaL_dostring(state, to_luastring(call)) !== 0;
  const text = lua.lua_tojsstring(state, -1);
  assert.ok(!failed, text);
  return text;
}

function healthOf(object: Json): { status: string; message: string } {
  const text = evaluated(HEALTH, object, 'result.status .. "\\n" .. result.message');
  const [status = '', message = ''] = text.split('\n');
  return { status, message };
}

const condition = (type: string, status: string, reason = 'Because', message = 'it is so') => ({
  type,
  status,
  reason,
  message,
});

const job = (status: Record<string, Json>, metadata: Record<string, Json> = {}): Json => ({
  metadata: { generation: 3, ...metadata },
  spec: {},
  status: { observedGeneration: 3, ...status },
});

const RUNNING = [condition('Ready', 'True', 'Running'), condition('CheckpointHealthy', 'True')];

describe('the health of a TriggerJob in Argo CD', () => {
  const cases: [string, string, Json, RegExp][] = [
    ['just made', 'Progressing', { metadata: { generation: 1 }, spec: {} }, /has not seen it/],
    [
      'of a spec that the operator has not seen',
      'Progressing',
      job({ observedGeneration: 2, conditions: RUNNING, state: 'Running' }),
      /not seen generation 3/,
    ],
    ['that runs', 'Healthy', job({ conditions: RUNNING, state: 'Running' }), /Running: it is so/],
    [
      'that runs without checkpoints',
      'Degraded',
      job({
        conditions: [
          condition('Ready', 'True'),
          condition('CheckpointHealthy', 'False', 'CheckpointsFail'),
        ],
      }),
      /CheckpointsFail/,
    ],
    [
      'before its first checkpoint',
      'Healthy',
      job({ conditions: [condition('Ready', 'True'), condition('CheckpointHealthy', 'Unknown')] }),
      /it is so/,
    ],
    [
      'that is being upgraded',
      'Progressing',
      job({
        conditions: [
          condition('Ready', 'True'),
          condition('Reconciling', 'True', 'UpgradeStopping'),
        ],
      }),
      /UpgradeStopping/,
    ],
    [
      'with a spec that cannot work, though the one before runs',
      'Degraded',
      job({ conditions: [...RUNNING, condition('Stalled', 'True', 'InvalidSpec', 'keyBy')] }),
      /InvalidSpec: keyBy/,
    ],
    [
      'that was rolled back while it still reconciles',
      'Degraded',
      job({
        conditions: [
          condition('Stalled', 'True', 'RolledBack'),
          condition('Reconciling', 'True', 'RollbackDeploying'),
        ],
      }),
      /RolledBack/,
    ],
    [
      'on its way to be suspended',
      'Progressing',
      job({
        state: 'Suspending',
        conditions: [
          condition('Ready', 'False', 'Suspended'),
          condition('Reconciling', 'True', 'SuspendStopping'),
        ],
      }),
      /SuspendStopping/,
    ],
    [
      'that is suspended',
      'Suspended',
      job({ state: 'Suspended', conditions: [condition('Ready', 'False', 'Suspended')] }),
      /suspended/,
    ],
    [
      'whose changes are held back by annotation',
      'Suspended',
      job({ conditions: [...RUNNING, condition('Reconciling', 'True', 'Paused')] }),
      /Paused/,
    ],
    [
      'that restarts after a fault',
      'Progressing',
      job({ state: 'Restarting', conditions: [condition('Ready', 'False', 'NotRunning')] }),
      /NotRunning/,
    ],
    ['that failed', 'Degraded', job({ state: 'Failed', error: 'no topic' }), /no topic/],
    [
      'that has ended',
      'Healthy',
      job({ state: 'Finished', conditions: [condition('Ready', 'False', 'Finished')] }),
      /ended/,
    ],
    [
      'that is being deleted',
      'Progressing',
      job({ conditions: RUNNING }, { deletionTimestamp: '2026-11-26T03:00:00Z' }),
      /being deleted/,
    ],
    ['without conditions', 'Progressing', job({}), /no condition Ready/],
  ];
  for (const [what, status, object, message] of cases) {
    it(`${what} is ${status}`, () => {
      const health = healthOf(object);
      assert.equal(health.status, status);
      assert.match(health.message, message);
    });
  }
});

describe('the actions on a TriggerJob in Argo CD', () => {
  const { 'discovery.lua': discovery, definitions } = parse(fileOf('actions.yaml')) as {
    'discovery.lua': string;
    definitions: { name: string; 'action.lua': string }[];
  };
  const NAMES = ['savepoint', 'suspend', 'resume', 'restart'];
  const enabled = (object: Json): string[] =>
    NAMES.filter(
      (name) => evaluated(discovery, object, `tostring(result["${name}"].disabled)`) === 'false',
    );
  const done = (name: string, object: Json, expression: string): string => {
    const script = definitions.find((one) => one.name === name)?.['action.lua'] ?? '';
    return evaluated(script, object, `tostring(result.${expression})`);
  };
  const suspended = { metadata: {}, spec: { suspend: true }, status: { state: 'Suspended' } };

  it('are offered where they can be of use', () => {
    assert.deepEqual(definitions.map(({ name }) => name).toSorted(), NAMES.toSorted());
    const running = job({ state: 'Running' });
    assert.deepEqual(enabled(running), ['savepoint', 'suspend', 'restart']);
    assert.deepEqual(enabled(job({ state: 'Restarting' })), ['suspend', 'restart']);
    assert.deepEqual(enabled(suspended), ['resume']);
    assert.deepEqual(enabled({ metadata: {}, spec: {} }), ['suspend', 'restart']);
    const deletionTimestamp = '2026-11-26T03:00:00Z';
    assert.deepEqual(enabled(job({ state: 'Running' }, { deletionTimestamp })), []);
  });

  it('write what the operator acts on, and nothing else', () => {
    for (const name of ['savepoint', 'restart']) {
      const annotation = `metadata.annotations["triggerjob.io/${name}"]`;
      const token = done(name, job({}), annotation);
      assert.match(token, /^\d{10}$/);
      const noted = job({}, { annotations: { mine: 'kept' } });
      assert.equal(done(name, noted, 'metadata.annotations.mine'), 'kept');
      assert.equal(done(name, noted, 'spec.suspend'), 'nil');
    }
    assert.equal(done('suspend', job({}), 'spec.suspend'), 'true');
    assert.equal(done('resume', suspended, 'spec.suspend'), 'false');
  });
});
