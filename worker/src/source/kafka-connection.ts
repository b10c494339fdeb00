/**
 * One connection with a Kafka broker: TCP or TLS, SASL, requests and their answers. Not that of
 * @platformatic/kafka, whose modules (all of Kafka's requests, JSON schemas, Avro) each slot's
 * thread would load: 0.4 s of CPU in place of 0.02 s.
 *
 * A connection that is broken, closed or at the end of its SASL session stays so: its owner opens
 * another one.
 */
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Env, Timer } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import type { KafkaClientOptions } from './kafka-client.ts';
import { authenticate, type SaslCredentials } from './kafka-sasl.ts';
import type { Broker } from './kafka-transport.ts';
import { WireReader, WireWriter } from './kafka-wire.ts';

export interface KafkaRequest<T> {
  /** For messages. */
  name: string;
  api: number;
  version: number;
  /** Tagged fields in the headers; ApiVersions has none in its answer's. */
  flexible: boolean | 'request';
  write(body: WireWriter): void;
  read(answer: WireReader): T;
}

export type ConnectionOptions = Omit<KafkaClientOptions, 'bootstrapBrokers'>;

interface Pending {
  read(answer: WireReader): void;
  reject(error: Error): void;
  readonly timer: Timer;
}

/** Length and correlation id. */
const HEAD_BYTES = 8;
const TLS_RECORDS = [0x14, 0x15, 0x16, 0x17];
/** A session that ends while a request is under way breaks the connection. */
const SESSION_SHARE = 0.8;

export class KafkaConnection {
  readonly #env: Env;
  readonly #name: string;
  readonly #options: ConnectionOptions;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #last = 0;
  #error: Error | null = null;
  #retired = false;
  /** Of an answer that has begun: its head until that is whole, then what follows. */
  #head = Buffer.alloc(HEAD_BYTES);
  #headLength = 0;
  #body: Buffer | null = null;
  #bodyLength = 0;
  #answering: Pending | null = null;
  #sessionEndsAt = Number.POSITIVE_INFINITY;

  private constructor(env: Env, name: string, options: ConnectionOptions, socket: Socket) {
    this.#env = env;
    this.#name = name;
    this.#options = options;
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('error', (cause) => this.#fail('it broke', cause));
    socket.on('close', () => this.#fail('the broker closed it'));
  }

  /** Rejects with KAFKA_REQUEST_FAILED or KAFKA_AUTHENTICATION_FAILED. */
  static async open(
    env: Env,
    broker: Broker,
    options: ConnectionOptions,
  ): Promise<KafkaConnection> {
    const name = `${broker.host}:${broker.port}`;
    const socket = socketTo(broker, options);
    const connection = new KafkaConnection(env, name, options, socket);
    try {
      await connection.#connected(options.tls === undefined ? 'connect' : 'secureConnect');
      const { sasl } = options;
      if (sasl !== undefined) await connection.#authenticate(sasl);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** A request may be sent. */
  get usable(): boolean {
    return this.#error === null && this.#env.monotonic() < this.#sessionEndsAt;
  }

  /** Rejects with KAFKA_REQUEST_FAILED, or with what `read` throws if that is a TriggerJobError. */
  send<T>(request: KafkaRequest<T>): Promise<T> {
    const { name, api, version, flexible, write, read } = request;
    if (this.#error !== null) return Promise.reject(this.#error);
    this.#last = (this.#last + 1) & 0x7fff_ffff;
    const id = this.#last;
    const writer = new WireWriter().int16(api).int16(version).int32(id);
    writer.string(this.#options.clientId);
    if (flexible !== false) writer.noTags();
    write(writer);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const timer = this.#env.timer(this.#options.requestTimeout, () => {
      // What comes later would be taken for the answer to another request.
      this.#fail(`no answer to ${name} in ${this.#options.requestTimeout} ms`);
    });
    const take = (answer: WireReader) => {
      if (flexible === true) answer.skipTags();
      resolve(read(answer));
    };
    this.#pending.set(id, { read: take, reject, timer });
    this.#socket.write(writer.framed());
    return promise;
  }

  /** Closes once nothing waits for an answer. */
  retire(): void {
    this.#retired = true;
    if (this.#pending.size === 0 && this.#answering === null) this.close();
  }

  /** What waits for an answer fails. */
  close(): void {
    this.#fail('it was closed');
  }

  async #connected(event: 'connect' | 'secureConnect'): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { connectTimeout } = this.#options;
    const timer = this.#env.timer(connectTimeout, () => {
      this.#fail(`it did not stand after ${connectTimeout} ms`);
    });
    this.#socket.once(event, resolve).once('close', resolve);
    await promise;
    timer.cancel();
    if (this.#error !== null) throw this.#error;
  }

  async #authenticate(sasl: SaslCredentials): Promise<void> {
    const sessionMs = await authenticate(this.#env, (request) => this.send(request), sasl);
    if (sessionMs <= 0) return;
    this.#sessionEndsAt = this.#env.monotonic() + sessionMs * SESSION_SHARE;
  }

  #fail(what: string, cause?: unknown): void {
    if (this.#error === null) {
      const text = `connection with Kafka broker ${this.#name}: ${what}`;
      this.#error = new TriggerJobError('KAFKA_REQUEST_FAILED', text, { retryable: true, cause });
    }
    const waiting = [...this.#pending.values(), ...(this.#answering ? [this.#answering] : [])];
    this.#pending.clear();
    this.#answering = null;
    for (const { reject, timer } of waiting) {
      timer.cancel();
      reject(this.#error);
    }
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && this.#error === null; ) {
      at += this.#body === null ? this.#readHead(chunk, at) : this.#readBody(chunk, at);
    }
  }

  #readHead(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#head, this.#headLength, at);
    this.#headLength += taken;
    if (this.#headLength < HEAD_BYTES) return taken;
    this.#headLength = 0;
    const length = this.#head.readInt32BE(0) - 4;
    const id = this.#head.readInt32BE(4);
    const pending = this.#pending.get(id);
    if (pending === undefined || length < 0) {
      const isTls = TLS_RECORDS.includes(this.#head[0]!) && this.#head[1] === 3;
      this.#fail(isTls ? 'the broker wants TLS' : 'it is no answer of a Kafka broker');
      return taken;
    }
    this.#pending.delete(id);
    this.#answering = pending;
    // Not before the answer is known for one: who is no broker may announce any length.
    this.#body = Buffer.allocUnsafeSlow(length);
    this.#bodyLength = 0;
    if (length === 0) this.#answered();
    return taken;
  }

  #readBody(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#body!, this.#bodyLength, at);
    this.#bodyLength += taken;
    if (this.#bodyLength === this.#body!.length) this.#answered();
    return taken;
  }

  #answered(): void {
    const { read, reject, timer } = this.#answering!;
    const answer = new WireReader(this.#body!);
    this.#body = null;
    this.#answering = null;
    timer.cancel();
    try {
      read(answer);
    } catch (cause) {
      const text = `an answer of Kafka broker ${this.#name} can't be read`;
      const wrapped = () =>
        new TriggerJobError('KAFKA_REQUEST_FAILED', text, { retryable: true, cause });
      reject(cause instanceof TriggerJobError ? cause : wrapped());
    }
    if (this.#retired) this.retire();
  }
}

/** An IP address is no legal server name. */
function socketTo({ host, port }: Broker, { tls, tlsServerName }: ConnectionOptions): Socket {
  if (tls === undefined) return connectTcp({ host, port });
  const named = tlsServerName === true && isIP(host) === 0 ? host : tlsServerName;
  const servername = typeof named === 'string' ? { servername: named } : {};
  return connectTls({ ...tls, ...servername, host, port });
}
