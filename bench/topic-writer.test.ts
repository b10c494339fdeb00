import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { TopicWriter } from './topic-writer.ts';

test('closed by the broker before, it closes at once and refuses a batch', async (t) => {
  const server = createServer();
  t.after(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const writer = await TopicWriter.connect(`127.0.0.1:${port}`, 'topic');
  const [broker] = await accepted;
  const waits = writer.append(0, Buffer.from('batch'));
  broker.resume().end();
  await assert.rejects(waits, /the broker closed the connection/);
  await assert.rejects(writer.append(0, Buffer.from('batch')), /the broker closed the connection/);
  await writer.close();
});
