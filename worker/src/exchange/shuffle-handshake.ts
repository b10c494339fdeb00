/**
 * How two TaskManagers agree on a connection: each says hello, the one that was called after it has
 * looked at the caller's. Nothing of a job is told to who does not know the attempt's secret.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { encodeHello, type Hello } from './wire.ts';
import { HelloDecoder } from './wire-decoder.ts';

/** A stranger that says nothing holds a connection no longer than this. */
const HELLO_LIMIT_MS = 5_000;

/** One end of an attempt. */
export interface Identity {
  jobId: string;
  attempt: number;
  secret: string;
  /** Our TaskManager id. */
  self: string;
}

/** The peer's hello, and what came behind it; the socket is paused. Rejects; never hangs. */
export function receiveHello(env: Env, socket: Duplex): Promise<{ hello: Hello; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    const decoder = new HelloDecoder();
    const settle = (act: () => void) => {
      timer.cancel();
      socket.off('data', onData);
      socket.off('error', onError);
      socket.off('close', onClose);
      act();
    };
    const refuse = (error: unknown) => settle(() => reject(error));
    const onData = (chunk: Buffer) => {
      try {
        const found = decoder.push(chunk);
        if (found === null) return;
        socket.pause();
        settle(() => resolve(found));
      } catch (error) {
        refuse(error);
      }
    };
    const onError = (error: Error) => refuse(error);
    const onClose = () => refuse(new TriggerJobError('LINK_CLOSED', 'closed before its hello'));
    const timer = env.timer(HELLO_LIMIT_MS, () =>
      refuse(new TriggerJobError('LINK_SILENT', `no hello in ${HELLO_LIMIT_MS} ms`)),
    );
    socket.on('data', onData);
    socket.on('error', onError);
    socket.on('close', onClose);
  });
}

export function sendHello(socket: Duplex, own: Identity, to: string): void {
  const { jobId, attempt, secret, self } = own;
  socket.write(encodeHello({ jobId, from: self, to, attempt, secret, refused: null }));
}

/** Says why, ends the connection. Bears no secret: the other end has not shown that it knows it. */
export function sendRefusal(socket: Duplex, hello: Hello, reason: string): void {
  const { jobId, from, to, attempt } = hello;
  socket.end(encodeHello({ jobId, from: to, to: from, attempt, secret: '', refused: reason }));
}

/** What is wrong with the peer's hello; null = nothing. */
export function helloFault(own: Identity, hello: Hello): string | null {
  if (hello.refused !== null) return `refused: ${hello.refused}`;
  if (!sameSecret(own.secret, hello.secret) || hello.attempt !== own.attempt) {
    return `attempt ${hello.attempt} is not the one that runs here, or its secret is wrong`;
  }
  if (hello.jobId !== own.jobId) return 'it belongs to another job';
  return hello.to === own.self ? null : `it looks for ${hello.to}, this is ${own.self}`;
}

/** In constant time: how much of it was right must not be told by a clock. */
function sameSecret(one: string, other: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}
