/** The launcher with stand-ins for the roles: real processes, no pipeline. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { realEnv } from '../runtime/env.ts';
import { Launcher } from './launcher.ts';
import { StateDir } from './state-dir.ts';
import { Terminal } from './terminal.ts';

/**
 * Notes each start; the JobManager's SIGTERM lets the TaskManagers end, its SIGHUP is the end of a
 * job. Not SIGUSR2: the test runner makes Node answer that one with a report file in the working
 * directory.
 */
const STAND_IN = `
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
const [role, ...args] = process.argv.slice(2);
const option = (name) => args[args.indexOf(name) + 1];
const folder = process.env.STAND_IN_FOLDER;
appendFileSync(join(folder, 'starts'), role + ' ' + process.pid + ' ' + args.join(' ') + '\\n');
process.once('disconnect', () => process.exit(4));
if (role === 'jobmanager' && existsSync(join(folder, 'refuse'))) {
  console.error('topic user-tracking-events does not exist');
  process.exit(1);
}
if (role === 'jobmanager') {
  const stop = args.includes('--on-sigterm') ? 'SIGINT' : 'SIGTERM';
  process.on(stop, () => { writeFileSync(join(folder, 'over'), ''); process.exit(0); });
  process.on('SIGHUP', () => process.exit(0));
  const ports = { rpcPort: 4711, restPort: 4712, pid: process.pid };
  writeFileSync(option('--port-file'), JSON.stringify(ports));
}
console.log('DEBUG EVENT of ' + role);
console.log('{"level":40,"time":1,"msg":"careful"}');
setInterval(() => {
  if (role === 'taskmanager' && existsSync(join(folder, 'over'))) process.exit(0);
}, 20);
`;

const LIMIT_MS = 20_000;

async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  for (const end = Date.now() + LIMIT_MS; Date.now() < end; await wait(20)) {
    const found = look();
    if (found !== undefined && found !== false) return found;
  }
  throw new Error(`waited ${LIMIT_MS} ms for ${what}`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie waits for its parent, which in a container may be a process that never asks.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('launcher', () => {
  let folder = '';
  let lines: string[] = [];
  let launcher: Launcher;

  const starts = (role: string): { pid: number; line: string }[] => {
    const path = join(folder, 'starts');
    const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
    return text
      .split('\n')
      .filter((line) => line.startsWith(`${role} `))
      .map((line) => ({ pid: Number(line.split(' ')[1]), line }));
  };
  const makeLauncher = (jobManagers = 1): Launcher => {
    const stream = {
      write: (text: string | Uint8Array) => lines.push(String(text).trimEnd()) > 0,
    };
    const dir = new StateDir(folder);
    dir.create();
    return new Launcher({
      env: realEnv,
      terminal: new Terminal(stream, stream, {}),
      planFile: 'job.yaml',
      planJson: 'plan.json',
      jobManagers,
      taskManagers: 2,
      slots: 3,
      slotHeapMebibytes: 64,
      dir,
      storeUrl: dir.storeUrl,
      restPort: 0,
      secretFile: null,
      dataPort: 0,
      from: '7',
      entry: join(folder, 'stand-in.mjs'),
    });
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'launcher-'));
    writeFileSync(join(folder, 'stand-in.mjs'), STAND_IN);
    process.env['STAND_IN_FOLDER'] = folder;
    lines = [];
    launcher = makeLauncher();
  });
  afterEach(async () => {
    await launcher.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  it('starts the JobManager, and the TaskManagers with where its address will be', async () => {
    await launcher.start();
    await until('two TaskManagers', () => starts('taskmanager').length === 2);
    assert.match(starts('jobmanager')[0]?.line ?? '', /--plan job\.yaml .*--from 7$/);
    const [one, two] = starts('taskmanager').toSorted((a, b) => (a.line < b.line ? -1 : 1));
    for (const start of [one, two]) {
      assert.match(
        start?.line ?? '',
        /--jobmanager-port-files \S+jobmanager\.json --slots 3 --slot-heap 64 /,
      );
    }
    const locals = [one, two].map(
      (start) => /--local-state-dir (\S+)/.exec(start?.line ?? '')?.[1],
    );
    assert.notEqual(locals[0], locals[1]);
    assert.equal(launcher.restUrl, 'http://127.0.0.1:4712');
    await until('output and warnings', () => lines.includes('DEBUG EVENT of taskmanager'));
    await until('a warning', () => lines.includes('warning jobmanager: careful'));
    assert.match(readFileSync(join(folder, 'logs/jobmanager.log'), 'utf8'), /careful/);
  });

  it('starts again what dies, the JobManager on the same port and from where it was', async () => {
    await launcher.start();
    const [first] = await until('the TaskManagers', () => {
      const found = starts('taskmanager');
      return found.length === 2 && found;
    });
    process.kill(first?.pid ?? 0, 'SIGKILL');
    await until('a third start', () => starts('taskmanager').length === 3);
    process.kill(starts('jobmanager')[0]?.pid ?? 0, 'SIGKILL');
    const again = await until('a second JobManager', () => starts('jobmanager')[1]);
    assert.match(again.line, /--rpc-port 4711 (?!.*--from)/);
  });

  it('stops through the JobManager, and nothing is started again', async () => {
    await launcher.start();
    await until('the TaskManagers', () => starts('taskmanager').length === 2);
    assert.equal(await launcher.stop(LIMIT_MS), true);
    const all = [...starts('jobmanager'), ...starts('taskmanager')];
    assert.deepEqual(
      all.filter(({ pid }) => isAlive(pid)),
      [],
    );
    assert.equal(all.length, 3);
    assert.equal(existsSync(join(folder, 'jobmanager.json')), false);
  });

  it('starts standbys, names them all to the TaskManagers, and stops them all', async () => {
    launcher = makeLauncher(2);
    await launcher.start();
    const all = await until('the TaskManagers', () => {
      const found = starts('taskmanager');
      return found.length === 2 && found;
    });
    assert.match(all[0]?.line ?? '', /-port-files \S+jobmanager\.json \S+jobmanager-2\.json /);
    const managers = starts('jobmanager');
    assert.equal(managers.length, 2);
    for (const { line } of managers) assert.match(line, /--on-sigterm release/);
    assert.ok(existsSync(join(folder, 'jobmanager-2.json')));
    process.kill(managers[1]?.pid ?? 0, 'SIGKILL');
    await until('a third JobManager', () => starts('jobmanager').length === 3);
    assert.equal(await launcher.stop(LIMIT_MS), true);
    assert.deepEqual(
      [...starts('jobmanager'), ...starts('taskmanager')].filter(({ pid }) => isAlive(pid)),
      [],
    );
  });

  it('reports a JobManager that refuses to start, with its own words', async () => {
    writeFileSync(join(folder, 'refuse'), '');
    await assert.rejects(launcher.start(), {
      code: 'JOB_MANAGER_START',
      message: 'topic user-tracking-events does not exist',
    });
    assert.equal(starts('jobmanager').length, 1);
  });

  it('tells the end of a job that finished by itself', async () => {
    await launcher.start();
    process.kill(starts('jobmanager')[0]?.pid ?? 0, 'SIGHUP');
    assert.deepEqual(await launcher.ended, { kind: 'finished' });
  });

  it('leaves nothing behind when it is killed', async () => {
    const script = join(folder, 'launch.mjs');
    const from = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
    writeFileSync(
      script,
      `import { Launcher } from ${from('./launcher.ts')};
       import { StateDir } from ${from('./state-dir.ts')};
       import { Terminal } from ${from('./terminal.ts')};
       import { realEnv } from ${from('../runtime/env.ts')};
       const dir = new StateDir(${JSON.stringify(folder)});
       const terminal = new Terminal(process.stdout, process.stderr, process.env);
       await new Launcher({ env: realEnv, terminal, dir, planFile: 'job.yaml', planJson: '',
         storeUrl: '', taskManagers: 2, slots: 1, restPort: 0, from: null,
         secretFile: null, dataPort: 0,
         entry: ${JSON.stringify(join(folder, 'stand-in.mjs'))} }).start();`,
    );
    const parent = spawn(process.execPath, [script], { stdio: 'ignore' });
    await until('all three children', () => starts('taskmanager').length === 2);
    const pids = [...starts('jobmanager'), ...starts('taskmanager')].map(({ pid }) => pid);
    parent.kill('SIGKILL');
    await once(parent, 'exit');
    await until('the end of all children', () => !pids.some(isAlive));
  });
});
