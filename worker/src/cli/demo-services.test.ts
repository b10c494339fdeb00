import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import {
  DemoReceiver,
  demoHistory,
  demoProfile,
  demoVisit,
  startDemoServices,
} from './demo-services.ts';

const USERS = Array.from({ length: 5_000 }, (_, index) => `u${String(index).padStart(10, '0')}`);
const BODY = JSON.stringify({ event: { user_id: 'u1' }, user: {}, visit: {}, history: [] });

async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(async (server) => {
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
      const address = server.address();
      return typeof address === 'object' && address !== null ? address.port : 0;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return [ports[0] ?? 0, ports[1] ?? 0];
}

describe('demo Profile API', () => {
  it('knows nine countries and one user in five from the US', () => {
    const countries = USERS.map((user) => (demoProfile(user) as { country: string }).country);
    const share = countries.filter((country) => country === 'US').length / USERS.length;
    assert.equal(new Set(countries).size, 9);
    assert.ok(share > 0.18 && share < 0.22, `share of US users ${share}`);
  });

  it('gives 20 to 100 events of history, and always the same', () => {
    const lengths = USERS.slice(0, 500).map((user) => demoHistory(user).length);
    assert.ok(Math.min(...lengths) >= 20 && Math.max(...lengths) <= 100);
    assert.deepEqual(demoHistory('ümlaut'), demoHistory('ümlaut'));
    assert.notDeepEqual(demoProfile('u1'), demoProfile('u2'));
  });

  it('answers over HTTP, ids decoded, and 404 for anything else', async () => {
    const [profilePort, webhookPort] = await freePorts();
    const services = await startDemoServices(profilePort, webhookPort);
    try {
      const get = (path: string) => fetch(`http://127.0.0.1:${profilePort}${path}`);
      assert.deepEqual(await (await get('/users/a%2Fb/profile')).json(), demoProfile('a/b'));
      assert.deepEqual(await (await get('/users/u1/visit')).json(), demoVisit('u1'));
      assert.deepEqual(await (await get('/users/u1/history')).json(), demoHistory('u1'));
      for (const path of ['/', '/users/u1', '/users//profile', '/users/u1/other']) {
        assert.equal((await get(path)).status, 404, path);
      }
      const post = await fetch(`http://127.0.0.1:${webhookPort}/hook`, {
        method: 'POST',
        headers: { 'webhook-id': 'w1' },
        body: BODY,
      });
      assert.equal(post.status, 204);
      assert.deepEqual(await services.receiver.first, { path: '/hook', body: BODY });
    } finally {
      await services.close();
    }
  });
});

describe('demo webhook receiver', () => {
  it('counts, recognises repeats by id, and refuses what is no enriched event', () => {
    const receiver = new DemoReceiver();
    assert.equal(receiver.take('/hook', 'a', BODY), 204);
    assert.equal(receiver.take('/hook', 'b', BODY), 204);
    assert.equal(receiver.take('/hook', 'a', BODY), 204);
    assert.equal(receiver.take('/hook', undefined, BODY), 400);
    assert.equal(receiver.take('/hook', 'c', '{"event":'), 400);
    assert.equal(receiver.take('/hook', 'd', '[]'), 400);
    assert.deepEqual(receiver.counts, { received: 3, repeated: 1, invalid: 3 });
  });
});
