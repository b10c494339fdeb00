/**
 * One established connection between two TaskManagers, for one attempt: messages out in order,
 * messages in, a ping each heartbeat interval, and one end. It is broken by a reset, an orderly
 * close, a fault of the format, silence beyond the timeout, or a queue over its limit, and is then
 * never resumed: the peer is lost for this attempt (P51).
 *
 * Frames wait while the socket is full; credit and pings overtake them, so that two ends that both
 * wait for room still give each other room. What may wait is bounded by the credit of the channels
 * (P17), counted here as a check: barriers must not wait for credit, so the queue can't.
 */
import type { Duplex } from 'node:stream';
import type { Env, Timer } from '../runtime/env.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import { encodePing, type WireMessage } from './wire.ts';
import { WireDecoder } from './wire-decoder.ts';

export interface PeerLinkOptions {
  env: Env;
  /** Nobody else listens to it any more. */
  socket: Duplex;
  heartbeatMs: number;
  timeoutMs: number;
  /** Frames that may wait for the socket. */
  maxQueued: number;
  onMessage(message: Exclude<WireMessage, { kind: 'ping' }>): void;
  /** Once; not after `close`. */
  onLost(error: TriggerJobError): void;
}

interface Queued {
  header: Buffer;
  payload: Buffer;
  sent: () => void;
}

export class PeerLink {
  readonly #options: PeerLinkOptions;
  readonly #decoder = new WireDecoder();
  #urgent: Buffer[] = [];
  #frames: Queued[] = [];
  /** Frames whose bytes the socket still holds are queued, too. */
  #unsent = 0;
  #queuedBytes = 0;
  #full = false;
  #pumping = false;
  #over = false;
  #heardAt: number;
  #tickAt = 0;
  #timer: Timer | null = null;
  #pingWaits = false;

  constructor(options: PeerLinkOptions) {
    this.#options = options;
    this.#heardAt = options.env.monotonic();
  }

  /** `received`: bytes that came behind the hello. */
  start(received: Buffer): void {
    const { socket } = this.#options;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => {
      this.#full = false;
      this.#pump();
    });
    socket.on('error', (error) => this.#lose('LINK_RESET', messageOf(error), error));
    socket.on('end', () => this.#lose('LINK_CLOSED', 'the peer closed the connection'));
    socket.on('close', () => this.#lose('LINK_CLOSED', 'the connection was closed'));
    this.#tick();
    if (received.length > 0) this.#receive(received);
    socket.resume();
  }

  /** Bytes of frames that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** `sent`: the payload's memory is free again. Not called when the link is lost. */
  sendFrame([header, payload]: [Buffer, Buffer], sent: () => void): void {
    if (this.#over) return;
    const { maxQueued } = this.#options;
    if (this.#unsent >= maxQueued) {
      const text = `${maxQueued} frames wait: more than the credit of all channels allows`;
      this.#lose('LINK_QUEUE_FULL', text);
      return;
    }
    this.#unsent++;
    this.#queuedBytes += header.length + payload.length;
    this.#frames.push({ header, payload, sent });
    this.#pump();
  }

  /** Ahead of waiting frames. */
  sendCredit(message: Buffer): void {
    if (this.#over) return;
    this.#urgent.push(message);
    this.#pump();
  }

  /** Our own end of the attempt; the peer sees the connection close. */
  close(): void {
    this.#end();
  }

  #receive(chunk: Buffer): void {
    if (this.#over) return;
    this.#heardAt = this.#options.env.monotonic();
    let messages: WireMessage[];
    try {
      messages = this.#decoder.push(chunk);
    } catch (error) {
      const code = error instanceof TriggerJobError ? error.code : 'WIRE_FORMAT';
      this.#lose(code, messageOf(error), error);
      return;
    }
    for (const message of messages) {
      if (message.kind !== 'ping') this.#options.onMessage(message);
      if (this.#over) return;
    }
  }

  /** At the end of this turn: one system call for all that is queued in it. */
  #pump(): void {
    if (this.#full || this.#over || this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      const { socket } = this.#options;
      socket.cork();
      this.#write();
      socket.uncork();
    });
  }

  #write(): void {
    const { socket } = this.#options;
    while (!this.#full && !this.#over) {
      const message = this.#urgent.shift();
      if (message !== undefined) {
        this.#full = !socket.write(message);
        continue;
      }
      this.#pingWaits = false;
      const next = this.#frames.shift();
      if (next === undefined) return;
      const { header, payload, sent } = next;
      socket.write(header);
      this.#full = !socket.write(payload, (error) => {
        this.#unsent--;
        this.#queuedBytes -= header.length + payload.length;
        if (error == null && !this.#over) sent();
      });
    }
  }

  #tick(): void {
    const { env, heartbeatMs, timeoutMs } = this.#options;
    const now = env.monotonic();
    // Our own sleep is not the peer's silence: what it sent meanwhile waits in the kernel.
    if (this.#tickAt > 0 && now - this.#tickAt > heartbeatMs) this.#heardAt += now - this.#tickAt;
    const silentMs = Math.round(now - this.#heardAt);
    if (silentMs > timeoutMs) {
      this.#lose('LINK_SILENT', `nothing came for ${silentMs} ms`);
      return;
    }
    if (!this.#pingWaits) {
      this.#pingWaits = true;
      this.sendCredit(encodePing());
    }
    this.#tickAt = now + heartbeatMs;
    this.#timer = env.timer(heartbeatMs, () => this.#tick());
  }

  #lose(code: string, message: string, cause?: unknown): void {
    if (this.#over) return;
    this.#end();
    this.#options.onLost(new TriggerJobError(code, message, { retryable: true, cause }));
  }

  #end(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#urgent = [];
    this.#frames = [];
    this.#options.socket.destroy();
  }
}
