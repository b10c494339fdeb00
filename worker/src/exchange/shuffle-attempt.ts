/**
 * The exchange of one deployment between this TaskManager and the others: which subtask is where
 * and in which attempt, one link per peer, and what comes in checked before a slot sees it.
 *
 *   slot -> send -> (waits until the link is there) -> link ==TCP==> checks -> deliver -> slot
 *        <- granted <---------------------------- credit <---------------------- credit <-
 *
 * A frame of an older attempt is dropped and counted (P38). A frame of a channel that is not the
 * peer's, out of order, or beyond its credit breaks the link, and a broken link is the loss of that
 * peer (P51): it is told once, and the owner ends the attempt or has the lost tasks replaced, on
 * new links. The links between those that are left stay.
 */
import type { AttemptMember, ShuffleMetrics } from '../rpc/messages.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { Frame } from './frame.ts';
import type { PeerLink } from './peer-link.ts';
import type { Identity } from './shuffle-handshake.ts';
import {
  type Attempts,
  type Channel,
  encodeCredit,
  encodeFrame,
  type WireMessage,
} from './wire.ts';

/**
 * Frames without credit that may wait per channel: a clock a second, a barrier per checkpoint, and
 * one announcement per split, of which a source has at most some thousands.
 */
const MAX_CONTROLS_QUEUED = 16_384;

export interface ShuffleAttemptOptions extends Identity {
  members: readonly AttemptMember[];
  /** Attempts of all subtasks, by number. */
  attempts: readonly number[];
  /** Data frames that a channel may have under way, the reserved one not counted. */
  credit: number;
  heartbeatMs: number;
  timeoutMs: number;
  deliver(channel: Channel, frame: Frame, attempts: Attempts): void;
  /** The receiver has done with a frame; `bytes`: a buffer that is free again, if there is one. */
  granted(channel: Channel, bytes: Uint8Array | null, attempts: Attempts): void;
  /** The attempt can't go on. At most once per peer; not after `close`. */
  lost(taskManagerId: string, error: TriggerJobError): void;
}

interface Peer {
  readonly member: AttemptMember;
  readonly state: 'connecting' | 'connected' | 'lost';
}

interface PeerState extends Peer {
  member: AttemptMember;
  state: Peer['state'];
  link: PeerLink | null;
  /** Until the link is there. Bounded as the link's queue is. */
  early: { channel: Channel; frame: Frame }[];
}

/** A channel from a subtask elsewhere to one of ours. */
interface Inbound {
  nextSeq: number;
  /** Data frames whose credit has not gone back. */
  open: number;
}

export class ShuffleAttempt {
  readonly options: ShuffleAttemptOptions;
  readonly #peers = new Map<string, PeerState>();
  readonly #peerOf = new Map<number, PeerState>();
  #own: ReadonlySet<number> = new Set();
  #attempt: number;
  #attempts: readonly number[];
  readonly #inbound = new Map<number, Inbound>();
  /** Buffers that the socket has done with, by channel, for the next credit. */
  readonly #free = new Map<number, Uint8Array[]>();
  #closed = false;
  #bytesSent = 0;
  #framesSent = 0;
  #staleFrames = 0;

  constructor(options: ShuffleAttemptOptions) {
    this.options = options;
    this.#attempt = options.attempt;
    this.#attempts = options.attempts;
    this.#join(options.members);
  }

  /** Who we are to a peer. */
  get identity(): Identity {
    const { jobId, secret, self } = this.options;
    return { jobId, secret, self, attempt: this.#attempt };
  }

  get closed(): boolean {
    return this.#closed;
  }

  get peers(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  get stats(): ShuffleMetrics {
    const links = [...this.#peers.values()].flatMap(({ link }) => link ?? []);
    return {
      links: links.length,
      bytesSent: this.#bytesSent,
      framesSent: this.#framesSent,
      queuedBytes: links.reduce((sum, link) => sum + link.queuedBytes, 0),
      staleFrames: this.#staleFrames,
    };
  }

  /** Frames that may wait for one peer: what the credit of its channels allows (P17). */
  maxQueued(taskManagerId: string): number {
    const subtasks = this.#peers.get(taskManagerId)?.member.subtasks.length ?? 0;
    const perChannel = this.options.credit + 1 + MAX_CONTROLS_QUEUED;
    return subtasks * this.#own.size * perChannel;
  }

  /** Whether this peer still waits for its connection: only the first one counts. */
  expects(taskManagerId: string): boolean {
    return !this.#closed && this.#peers.get(taskManagerId)?.state === 'connecting';
  }

  connected(taskManagerId: string, link: PeerLink): void {
    const peer = this.#peers.get(taskManagerId)!;
    peer.state = 'connected';
    peer.link = link;
    for (const { channel, frame } of peer.early.splice(0)) this.#sendOn(link, channel, frame);
  }

  /** Idempotent: the loss of a peer is final for this attempt. */
  lose(taskManagerId: string, error: TriggerJobError): void {
    const peer = this.#peers.get(taskManagerId);
    if (this.#closed || peer === undefined || peer.state === 'lost') return;
    peer.state = 'lost';
    peer.link?.close();
    peer.link = null;
    peer.early = [];
    this.options.lost(taskManagerId, error);
  }

  /** These subtasks are lost, and with them every peer that ran one: its link ends (P51). */
  detach(subtasks: readonly number[]): void {
    for (const subtask of subtasks) {
      const peer = this.#peerOf.get(subtask);
      this.#peerOf.delete(subtask);
      if (peer !== undefined) this.#dismiss(peer);
    }
    const gone = (key: number) =>
      subtasks.includes(Math.floor(key / SUBTASKS)) || subtasks.includes(key % SUBTASKS);
    for (const key of [...this.#inbound.keys()]) if (gone(key)) this.#inbound.delete(key);
    for (const key of [...this.#free.keys()]) if (gone(key)) this.#free.delete(key);
  }

  /** The detached subtasks' successors; returns the peers that are to be connected. */
  replace(next: {
    attempt: number;
    attempts: readonly number[];
    members: readonly AttemptMember[];
  }): Peer[] {
    this.#attempt = next.attempt;
    this.#attempts = next.attempts;
    return this.#join(next.members);
  }

  /** To a lost peer or an older attempt: into the void (P51). */
  send(channel: Channel, frame: Frame, { receiver }: Attempts): void {
    const peer = this.#peerOf.get(channel.to);
    if (this.#closed || peer === undefined || peer.state === 'lost') return;
    if (receiver !== this.#attempts[channel.to]) return;
    if (peer.link !== null) this.#sendOn(peer.link, channel, frame);
    else if (peer.early.length < this.maxQueued(peer.member.taskManagerId)) {
      peer.early.push({ channel, frame });
    } else {
      const text = 'more frames wait for its connection than credit allows';
      this.lose(peer.member.taskManagerId, new TriggerJobError('LINK_QUEUE_FULL', text));
    }
  }

  /** Our task has done with a data frame of `channel`. */
  credit(channel: Channel, { receiver }: Attempts): void {
    if (receiver !== this.#attempts[channel.from]) return;
    const inbound = this.#inbound.get(keyOf(channel));
    if (inbound !== undefined) inbound.open--;
    this.#peerOf
      .get(channel.from)
      ?.link?.sendCredit(encodeCredit(channel, this.#between(channel.to, channel.from), 1));
  }

  /** Called by a peer's link. */
  receive(taskManagerId: string, message: Exclude<WireMessage, { kind: 'ping' }>): void {
    const { attempts, channel } = message;
    const isFrame = message.kind === 'frame';
    const own = isFrame
      ? this.#between(channel.from, channel.to)
      : this.#between(channel.to, channel.from);
    if (attempts.receiver < own.receiver || attempts.sender < own.sender) {
      this.#staleFrames++;
      return;
    }
    const peer = this.#peers.get(taskManagerId);
    const fault =
      attempts.receiver > own.receiver || attempts.sender > own.sender
        ? foreign(`attempt ${Math.max(attempts.receiver, attempts.sender)}, not known here`)
        : isFrame
          ? this.#frameFault(peer, channel, message.frame)
          : this.#creditFault(peer, channel);
    if (fault !== null) {
      this.lose(taskManagerId, fault);
    } else if (isFrame) {
      this.options.deliver(channel, message.frame, attempts);
    } else {
      for (let i = 0; i < message.credits; i++) {
        this.options.granted(channel, this.#free.get(keyOf(channel))?.pop() ?? null, attempts);
      }
    }
  }

  close(): void {
    this.#closed = true;
    for (const peer of this.#peers.values()) {
      peer.link?.close();
      peer.link = null;
      peer.early = [];
    }
  }

  #join(members: readonly AttemptMember[]): Peer[] {
    const { self } = this.options;
    const fresh: Peer[] = [];
    for (const member of members) {
      const { taskManagerId, subtasks } = member;
      if (taskManagerId === self) {
        this.#own = new Set(subtasks);
        continue;
      }
      const known = this.#peers.get(taskManagerId);
      const peer: PeerState = known ?? { member, state: 'connecting', link: null, early: [] };
      peer.member = member;
      this.#peers.set(taskManagerId, peer);
      for (const subtask of subtasks) this.#peerOf.set(subtask, peer);
      if (known === undefined) fresh.push(peer);
    }
    return fresh;
  }

  #dismiss(peer: PeerState): void {
    peer.state = 'lost';
    peer.link?.close();
    peer.link = null;
    peer.early = [];
    this.#peers.delete(peer.member.taskManagerId);
  }

  /** Attempts as of now of who sends and who receives. */
  #between(sender: number, receiver: number): Attempts {
    return { sender: this.#attempts[sender] ?? 0, receiver: this.#attempts[receiver] ?? 0 };
  }

  #sendOn(link: PeerLink, channel: Channel, frame: Frame): void {
    const encoded = encodeFrame(channel, this.#between(channel.from, channel.to), frame);
    this.#framesSent++;
    this.#bytesSent += encoded[0].length + encoded[1].length;
    link.sendFrame(encoded, () => {
      if (frame.kind !== 'data') return;
      const key = keyOf(channel);
      const free = this.#free.get(key);
      if (free === undefined) this.#free.set(key, [frame.bytes]);
      else if (free.length <= this.options.credit) free.push(frame.bytes);
    });
  }

  /** Counts the frame in, or says what breaks the link. */
  #frameFault(peer: Peer | undefined, channel: Channel, frame: Frame): TriggerJobError | null {
    const { from, to } = channel;
    if (peer === undefined || this.#peerOf.get(from) !== peer || !this.#own.has(to)) {
      return foreign(`channel ${from} to ${to}`);
    }
    const inbound = this.#inbound.get(keyOf(channel)) ?? { nextSeq: 0, open: 0 };
    this.#inbound.set(keyOf(channel), inbound);
    if (frame.seq !== inbound.nextSeq) {
      const text = `channel ${from} to ${to}: frame ${frame.seq} instead of ${inbound.nextSeq}`;
      return new TriggerJobError('CHANNEL_GAP', text);
    }
    inbound.nextSeq++;
    if (frame.kind === 'data' && ++inbound.open > this.options.credit + 1) {
      const text = `channel ${from} to ${to} sent more than its ${this.options.credit} credits`;
      return new TriggerJobError('CREDIT_EXCEEDED', text);
    }
    return null;
  }

  #creditFault(peer: Peer | undefined, { from, to }: Channel): TriggerJobError | null {
    const known = peer !== undefined && this.#peerOf.get(to) === peer && this.#own.has(from);
    return known ? null : foreign(`credit of channel ${from} to ${to}`);
  }
}

/** Authenticated, yet not what this peer may send us. */
function foreign(what: string): TriggerJobError {
  return new TriggerJobError('WIRE_FOREIGN', `the peer sent what is not its own: ${what}`);
}

/** A subtask's number has 16 bits on the wire. */
const SUBTASKS = 65_536;

function keyOf({ from, to }: Channel): number {
  return from * SUBTASKS + to;
}
