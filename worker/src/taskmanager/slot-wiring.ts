/**
 * The message ports of one attempt's slots in this process. Two slots here are joined directly, so
 * that a buffer goes from thread to thread without the main thread; a slot and a subtask elsewhere
 * are joined through the main thread and the shuffle. A slot sees no difference.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { Frame } from '../exchange/frame.ts';
import type { Channel } from '../exchange/wire.ts';
import type { PeerMessage } from './slot-protocol.ts';

/** What the main thread does with what a slot sends to a subtask elsewhere. */
export interface Outside {
  send(channel: Channel, frame: Frame): void;
  credit(channel: Channel): void;
}

export class SlotWiring {
  readonly #slotEnds = new Map<number, (MessagePort | null)[]>();
  /** Our ends of the ports to other processes, by our subtask and theirs. */
  readonly #outer = new Map<number, (MessagePort | null)[]>();

  /** `own`: the subtasks of this process, of `count` in all. */
  constructor(own: readonly number[], count: number, outside: Outside) {
    const none = () => new Array<MessagePort | null>(count).fill(null);
    for (const subtask of own) {
      this.#slotEnds.set(subtask, none());
      this.#outer.set(subtask, none());
    }
    for (const here of own) {
      for (let peer = 0; peer < count; peer++) {
        const isOwn = this.#slotEnds.has(peer);
        if (peer === here || (isOwn && peer < here)) continue;
        const { port1, port2 } = new MessageChannel();
        this.#slotEnds.get(here)![peer] = port1;
        if (isOwn) this.#slotEnds.get(peer)![here] = port2;
        else this.#bridge(here, peer, port2, outside);
      }
    }
  }

  /** To be transferred to the slot: one per subtask, null at its own number. */
  portsOf(subtask: number): (MessagePort | null)[] {
    return this.#slotEnds.get(subtask)!;
  }

  /** From elsewhere, to the slot at the end of the channel. */
  deliver({ from, to }: Channel, frame: Frame): void {
    const transfer = frame.kind === 'data' ? [frame.bytes.buffer as ArrayBuffer] : [];
    this.#post(to, from, { type: 'frame', frame }, transfer);
  }

  /** From elsewhere, to the slot at the channel's beginning. */
  granted({ from, to }: Channel, bytes: Uint8Array | null): void {
    const transfer = bytes === null ? [] : [bytes.buffer as ArrayBuffer];
    this.#post(from, to, { type: 'credit', bytes }, transfer);
  }

  close(): void {
    for (const ports of this.#outer.values()) {
      for (const port of ports) port?.close();
    }
    this.#outer.clear();
  }

  #bridge(here: number, peer: number, port: MessagePort, outside: Outside): void {
    this.#outer.get(here)![peer] = port;
    port.on('message', (message: PeerMessage) => {
      if (message.type === 'frame') outside.send({ from: here, to: peer }, message.frame);
      // The buffer of a frame from elsewhere was made here, for that frame alone.
      else outside.credit({ from: peer, to: here });
    });
  }

  #post(here: number, peer: number, message: PeerMessage, transfer: ArrayBuffer[]): void {
    this.#outer.get(here)?.[peer]?.postMessage(message, transfer);
  }
}
