/** Events: counted up, bounded, and never in anybody's way. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualEnv } from '../manual-env.ts';
import { EventRecorder } from './events.ts';
import { KubeError } from './kube-error.ts';
import type { Event } from './objects.ts';
import type { EventNote, KubeObject, ObjectRef } from './port.ts';

class Recorded {
  readonly env = new ManualEnv();
  readonly created: Event[] = [];
  readonly patched: { name: string; patch: object }[] = [];
  readonly dropped: string[] = [];
  /** Thrown by the next calls. */
  faults: unknown[] = [];
  hold: Promise<void> | undefined;
  readonly recorder = new EventRecorder({
    env: this.env,
    api: {
      create: async <T extends KubeObject>(object: T) => {
        await this.hold;
        if (this.faults.length > 0) throw this.faults.shift();
        this.created.push(object as unknown as Event);
        return object;
      },
      patch: async <T extends KubeObject>({ name }: ObjectRef, patch: object) => {
        if (this.faults.length > 0) throw this.faults.shift();
        this.patched.push({ name, patch });
        return {} as T;
      },
    },
    controller: 'triggerjob.io/operator',
    instance: 'op-0',
    onDropped: (reason) => this.dropped.push(reason),
  });

  note(note: string, uid = 'u1'): void {
    const about = { apiVersion: 'triggerjob.io/v1alpha1', kind: 'TriggerJob', name: 'job', uid };
    const full: EventNote = {
      about: { ...about, namespace: 'ns' },
      type: 'Normal',
      reason: 'Deployed',
      action: 'Deploy',
      note,
    };
    this.recorder.record(full);
  }
}

describe('the event recorder', () => {
  it('writes what kubectl shows', async () => {
    const it = new Recorded();
    it.note('version 2');
    await it.env.settle();
    const [event] = it.created;
    assert.ok(event);
    assert.match(event.metadata.name, /^job\.[0-9a-f]{16}$/);
    assert.equal(event.metadata.namespace, 'ns');
    assert.match(String(event.eventTime), /\.\d{6}Z$/);
    const { regarding, reportingController, reportingInstance, note } = event;
    assert.deepEqual(
      [reportingController, reportingInstance, note],
      ['triggerjob.io/operator', 'op-0', 'version 2'],
    );
    assert.equal(regarding?.uid, 'u1');
  });

  it('counts repeats up in a series, written twice a minute at most', async () => {
    const it = new Recorded();
    for (let i = 0; i < 50; i += 1) it.note('again');
    await it.env.settle();
    assert.deepEqual([it.created.length, it.patched.length], [1, 0]);
    await it.env.advance(30_000);
    assert.equal(it.patched.length, 1);
    assert.match(JSON.stringify(it.patched[0]?.patch), /"count":50/);
    it.note('something else');
    await it.env.settle();
    assert.equal(it.created.length, 2);
    await it.env.advance(7 * 60_000);
    it.note('again');
    await it.env.settle();
    assert.equal(it.created.length, 3, 'after a pause it is news again');
  });

  it('limits a noisy object, not its neighbours', async () => {
    const it = new Recorded();
    for (let i = 0; i < 40; i += 1) it.note(`note ${i}`);
    it.note('other', 'u2');
    await it.env.settle();
    assert.equal(it.created.length, 26);
    assert.equal(it.dropped.length, 15);
    await it.env.advance(60_000);
    it.note('later');
    it.note('too soon');
    await it.env.settle();
    assert.equal(it.created.at(-1)?.note, 'later');
  });

  it('tries again what was not answered, gives up what is refused', async () => {
    const it = new Recorded();
    const away = new KubeError('KUBE_UNAVAILABLE', 'away');
    it.faults = [away, away];
    it.note('a');
    await it.env.settle();
    assert.equal(it.created.length, 1);
    it.faults = [new KubeError('KUBE_FORBIDDEN', 'no')];
    it.note('b');
    await it.env.settle();
    assert.deepEqual(it.dropped, ['refused']);
    it.faults = [away, new KubeError('KUBE_CONFLICT', 'exists', { reason: 'AlreadyExists' })];
    it.note('c');
    await it.env.settle();
    assert.deepEqual(it.dropped, ['refused'], 'the first try had come through');
  });

  it('drops what is too much while the API server does not answer', async () => {
    const it = new Recorded();
    it.hold = new Promise(() => {});
    for (let i = 0; i < 1_100; i += 1) it.note('x', `u${i}`);
    await it.env.settle();
    assert.ok(it.dropped.length >= 90);
  });

  it('cuts a long note at a character', async () => {
    const it = new Recorded();
    it.note('é'.repeat(2_000));
    await it.env.settle();
    const note = it.created[0]?.note ?? '';
    assert.ok(Buffer.byteLength(note) <= 1_024);
    assert.match(note, /^é+…$/);
  });
});
