/**
 * The message ports of one attempt's slots in this process. Two slots here are joined directly, so
 * that a buffer goes from thread to thread without the main thread; a slot and a subtask elsewhere
 * are joined through the main thread and the shuffle. A slot sees no difference.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { Frame } from '../exchange/frame.ts';
import type { Attempts, Channel } from '../exchange/wire.ts';
import type { PeerMessage } from './slot-protocol.ts';

/** What the main thread does with what a slot sends to a subtask elsewhere. */
export interface Outside {
  send(channel: Channel, frame: Frame, attempts: Attempts): void;
  credit(channel: Channel, attempts: Attempts): void;
}

export class SlotWiring {
  readonly #slotEnds = new Map<number, (MessagePort | null)[]>();
  /** Our ends of the ports that lead through here, by our subtask and the other one. */
  readonly #outer = new Map<number, (MessagePort | null)[]>();
  readonly #count: number;
  readonly #outside: Outside;

  /** `own`: the subtasks of this process, of `count` in all. */
  constructor(own: readonly number[], count: number, outside: Outside) {
    this.#count = count;
    this.#outside = outside;
    for (const subtask of own) this.#prepare(subtask);
    for (const here of own) {
      for (let peer = 0; peer < count; peer++) {
        const isOwn = this.#slotEnds.has(peer);
        if (peer === here || (isOwn && peer < here)) continue;
        const { port1, port2 } = new MessageChannel();
        this.#slotEnds.get(here)![peer] = port1;
        if (isOwn) this.#slotEnds.get(peer)![here] = port2;
        else this.#bridge(here, peer, port2);
      }
    }
  }

  /** A slot that comes later: running threads get no new port, so all of its ports lead here. */
  add(subtask: number): void {
    this.#prepare(subtask);
    for (let peer = 0; peer < this.#count; peer++) {
      if (peer === subtask) continue;
      const { port1, port2 } = new MessageChannel();
      this.#slotEnds.get(subtask)![peer] = port1;
      this.#bridge(subtask, peer, port2);
    }
  }

  /** To be transferred to the slot: one per subtask, null at its own number. */
  portsOf(subtask: number): (MessagePort | null)[] {
    return this.#slotEnds.get(subtask)!;
  }

  /** From elsewhere, to the slot at the end of the channel. */
  deliver({ from, to }: Channel, frame: Frame, attempts: Attempts): void {
    const transfer = frame.kind === 'data' ? [frame.bytes.buffer as ArrayBuffer] : [];
    this.#post(to, from, { type: 'frame', frame, attempts }, transfer);
  }

  /** From elsewhere, to the slot at the channel's beginning. */
  granted({ from, to }: Channel, bytes: Uint8Array | null, attempts: Attempts): void {
    const transfer = bytes === null ? [] : [bytes.buffer as ArrayBuffer];
    this.#post(from, to, { type: 'credit', bytes, attempts }, transfer);
  }

  close(): void {
    for (const ports of this.#outer.values()) {
      for (const port of ports) port?.close();
    }
    this.#outer.clear();
  }

  #prepare(subtask: number): void {
    const none = () => new Array<MessagePort | null>(this.#count).fill(null);
    this.#slotEnds.set(subtask, none());
    this.#outer.set(subtask, none());
  }

  #bridge(here: number, peer: number, port: MessagePort): void {
    this.#outer.get(here)![peer] = port;
    const outside = this.#outside;
    port.on('message', (message: PeerMessage) => {
      const { attempts } = message;
      const isHere = this.#outer.has(peer);
      if (message.type === 'frame') {
        const channel = { from: here, to: peer };
        if (isHere) this.deliver(channel, message.frame, attempts);
        else outside.send(channel, message.frame, attempts);
        return;
      }
      const channel = { from: peer, to: here };
      if (isHere) this.granted(channel, message.bytes, attempts);
      // The buffer of a frame from elsewhere was made here, for that frame alone.
      else outside.credit(channel, attempts);
    });
  }

  #post(here: number, peer: number, message: PeerMessage, transfer: ArrayBuffer[]): void {
    this.#outer.get(here)?.[peer]?.postMessage(message, transfer);
  }
}
