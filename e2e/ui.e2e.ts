/**
 * The web UI in Chromium on the running demo: every page shows what is there, actions act, a
 * TaskManager that is gone is seen to be gone and to come back. In one browser and one job, in the
 * order in which a person would go through it.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import {
  namelessControls,
  openBrowser,
  openPage,
  picture,
  type Watched,
} from './testbed/browser.ts';
import { Command, freePort, json, restOf, statusUntil } from './testbed/command.ts';

const PAGES = ['Jobs', 'Job', 'Checkpoints', 'TaskManagers', 'Users', 'Live tap', 'Exceptions'];
const PHONE = { width: 390, height: 844 };

const folder = await mkdtemp(join(tmpdir(), 'triggerjob-ui-'));
let demo: Command;
let rest = '';
let browser: Browser;
let watched: Watched;
let page: Page;

before(async () => {
  const args = ['--state-dir', join(folder, 'demo'), '--rest-port', String(await freePort())];
  demo = new Command(['demo', '--rate', '500', '--users', '200', ...args]);
  [browser, rest] = await Promise.all([openBrowser(), restOf(demo)]);
  watched = await openPage(browser, 1280, 900);
  page = watched.page;
  await statusUntil(rest, 'events', ({ processed }) => processed > 500);
});
after(async () => {
  await browser?.close();
  demo.child.kill('SIGCONT');
  demo.interrupt();
  await demo.exit();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

const link = (name: string) => page.getByRole('link', { name, exact: true });
const region = (name: string) => page.getByRole('region', { name, exact: true });
const button = (name: string | RegExp) => page.getByRole('button', { name, exact: true });
const cardOf = (title: string) =>
  page.locator('.card').filter({ has: page.getByRole('heading', { name: title, exact: true }) });
const goTo = (name: string) =>
  page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name }).first().click();

/** What a person would wait for. */
async function sees(text: string | RegExp, where = page.locator('body')): Promise<void> {
  await where.getByText(text).first().waitFor();
}

/** What the browser itself tells of answers that a test asked for. */
const expected: string[] = [];

function quiet(): void {
  const complaints = watched.takeComplaints();
  const unexpected = complaints.filter((one) => !expected.some((part) => one.includes(part)));
  assert.deepEqual(unexpected, []);
}

test('jobs, and the job: stages, why it is slow, charts, hot users, ledger', async () => {
  await page.goto(`${rest}/`);
  await sees('4 of 4', cardOf('Cluster'));
  await picture(page, 'jobs');
  await cardOf('All jobs').getByRole('link', { name: 'demo' }).click();
  const stages = page.getByRole('list', { name: 'Stages of the job' });
  for (const name of ['Source', 'UserStateManager', 'EventFilter', 'ActionExecutor']) {
    await stages.getByRole('heading', { name }).waitFor();
  }
  await sees(/^[\d.]+k?$/, stages.locator('.stage .rate').first());
  await sees(/Healthy|Why it is slow/, region('Diagnosis'));
  await page.getByRole('img', { name: /^Events per second: processed now \d/ }).waitFor();
  assert.equal(await cardOf('Hot subtasks').getByRole('row').count(), 5);
  await cardOf('Hot users').getByRole('link').first().waitFor();
  await sees('balanced', cardOf('Every event accounted for'));
  // What the charts show is kept by the JobManager, not by the page.
  await page.reload();
  await page.getByRole('img', { name: /^Events per second: processed now \d/ }).waitFor();
  await picture(page, 'job');
  quiet();
});

test('a user: state, and which clause of the filter decides', async () => {
  await cardOf('Hot users').getByRole('link').first().click();
  await sees(/"country": "/, region('Profile'));
  const user = await page.getByLabel('User id').inputValue();
  assert.match(user, /^u\d{10}$/);
  await sees(user, cardOf('History, newest first'));
  await page
    .getByLabel('Event', { exact: true })
    .fill(JSON.stringify({ user_id: user, event_name: 'click', triggerable: false }));
  await button('Explain').click();
  const explanation = region('Explanation');
  await sees('no match', explanation);
  assert.equal(await explanation.locator('code.deciding').textContent(), 'event.triggerable');
  await explanation
    .getByRole('listitem')
    .filter({ hasText: 'event.triggerable' })
    .first()
    .waitFor();
  await picture(page, 'users');
  await page.getByLabel('Event', { exact: true }).fill('{"user_id": ');
  await button('Explain').click();
  await sees(/^The event is no JSON/);
  // A link leads to the same user again.
  const { hash } = new URL(page.url());
  await goTo('Jobs');
  await page.goto(`${rest}/${hash}`);
  await sees(/"country": "/, region('Profile'));
  await page.keyboard.press('/');
  await page.keyboard.type('x');
  assert.equal(await page.getByLabel('User id').inputValue(), `${user}x`);
  expected.push(`/users/${user}x`);
  await page.keyboard.press('Enter');
  await sees(`User ${user}x is not in state`);
  quiet();
});

test('the live tap: by stage and user, paused, explained', async () => {
  await goTo('Live tap');
  const rows = page.locator('ol.tap > li');
  await rows.first().waitFor();
  await page.getByLabel('Stage').selectOption('fired');
  await page.locator('.stage-name.fired').first().waitFor();
  assert.equal(await page.locator('.stage-name:not(.fired)').count(), 0);
  await page.locator('h1').click();
  await page.keyboard.press('p');
  await sees(/^Paused/);
  await picture(page, 'tap');
  await rows.first().getByRole('button').click();
  const user = ((await rows.first().locator('b').first().textContent()) ?? '').trim();
  await link('Only them').click();
  await page.waitForFunction((id) => location.hash.includes(`user=${id}`), user);
  await goTo('Live tap');
  await rows.first().waitFor();
  await page.keyboard.press('p');
  await sees(/^Paused/);
  await rows.first().getByRole('button').click();
  await link('Explain').click();
  await button('Explain').click();
  await region('Explanation').waitFor();
  quiet();
});

test('a savepoint: its progress and its place; the history and its parts', async () => {
  await goTo('Checkpoints');
  await button('Savepoint').click();
  await sees(/^The savepoint is complete/);
  const location = (await page.locator('.notice.ok code').textContent()) ?? '';
  assert.ok((await stat(fileURLToPath(location))).isDirectory());
  const history = page.getByRole('region', { name: 'History of checkpoints' });
  const row = history.getByRole('row').filter({ hasText: 'savepoint' }).first();
  await sees('completed', row);
  await row.getByRole('button').click();
  await page.getByRole('region', { name: /^Subtasks of checkpoint/ }).waitFor();
  await picture(page, 'checkpoints');
  await button('Checkpoint').click();
  await sees(/^The checkpoint is complete: number \d+\./);
  quiet();
});

test('a token is asked for where the server wants one, and used from then on', async () => {
  expected.push('status of 401');
  await page.route('**/checkpoints', async (route) => {
    const bears = route.request().headers()['authorization'] === 'Bearer a-token-of-the-job';
    if (route.request().method() === 'GET' || bears) return route.fallback();
    return route.fulfill({ status: 401, json: { errors: ['a token of this job is needed'] } });
  });
  await button('Checkpoint').click();
  await button('Enter the token').click();
  await page.getByRole('dialog').getByLabel('Token').fill('a-token-of-the-job');
  await button('Use it').click();
  await button('Checkpoint').click();
  await sees(/^The checkpoint is complete/);
  await page.unrouteAll();
  const kept = await page.evaluate(() => [sessionStorage.length, localStorage.length]);
  assert.deepEqual(kept, [1, 0]);
  quiet();
});

test('a TaskManager dies: the pages say so, and see the job recover', async () => {
  await goTo('TaskManagers');
  await sees('4 of 4 slots in use');
  await page.getByRole('meter', { name: /^Memory of/ }).waitFor();
  await sees('Longest pause');
  await picture(page, 'taskmanagers');
  const { taskManagers } = await json<{ taskManagers: { pid: number }[] }>(
    `${rest}/api/v1/details`,
  );
  // Whoever would start it again stands still until the pages have been looked at.
  demo.child.kill('SIGSTOP');
  process.kill(taskManagers[0]!.pid, 'SIGKILL');
  await sees('No TaskManager is registered');
  await goTo('Job');
  await page
    .locator('.heading .badge')
    .filter({ hasText: /restarting|created/ })
    .waitFor();
  await sees('scheduled', page.getByRole('list', { name: 'Stages of the job' }));
  await sees('Why it is slow', region('Diagnosis'));
  await picture(page, 'job-restarting');
  demo.child.kill('SIGCONT');
  await page.locator('.heading .badge').filter({ hasText: 'running' }).waitFor();
  await sees('live', page.getByRole('banner'));
  await goTo('Exceptions');
  await sees('taskmanager lost', region('First cause'));
  await picture(page, 'exceptions');
  quiet();
});

test('without a server the page says since when, keeps what it knows, and comes back', async () => {
  expected.push('net::ERR_');
  await page.context().setOffline(true);
  await sees(/^reconnecting, last seen \d+ s ago$/);
  await sees('taskmanager lost', region('First cause'));
  await picture(page, 'offline');
  await page.context().setOffline(false);
  await sees('live', page.getByRole('banner'));
  quiet();
});

test('by keys alone, in the dark, on a phone: every page fits and names its controls', async () => {
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
  await page.keyboard.press('Escape');
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.locator('html[data-theme=dark]').waitFor();
  assert.notEqual(await ground(), light, 'as the system says');
  await page.keyboard.press('t');
  assert.equal(await ground(), light, 'until somebody chooses');
  await page.keyboard.press('t');
  await page.setViewportSize(PHONE);
  for (const [index, name] of PAGES.entries()) {
    await page.keyboard.press(String(index + 1));
    await page.locator('nav [aria-current=page]').filter({ hasText: name }).waitFor();
    await page.locator('main .loading').first().waitFor({ state: 'detached' });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= PHONE.width, `${name} is ${wide} wide`);
    assert.deepEqual(await namelessControls(page), [], name);
    assert.equal(await page.getByRole('heading', { level: 1 }).count(), 1, name);
    await picture(page, `phone-${name.toLowerCase().replace(' ', '-')}`);
  }
  quiet();
});

test('behind a path prefix: links, data and actions', async (t) => {
  const proxy = createServer((request, response) => {
    const path = request.url?.replace(/^\/jobs\/demo/, '') ?? '/';
    const { method, headers } = request;
    const forward = httpRequest(
      `${rest}${path}`,
      { method: method ?? 'GET', headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    forward.on('error', () => response.destroy());
    request.pipe(forward);
  });
  const port = await freePort();
  proxy.listen(port, '127.0.0.1');
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  await page.goto(`http://127.0.0.1:${port}/jobs/demo/`);
  await goTo('Checkpoints');
  await button('Checkpoint').click();
  await sees(/^The checkpoint is complete/);
  await page.goto('about:blank');
  quiet();
});
