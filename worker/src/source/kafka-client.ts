/**
 * How this project connects to Kafka: the one place where a `KafkaConnectionPlan` becomes options
 * of a client, the source's own or, for the dead letter, that of @platformatic/kafka. Owns secrets
 * (read from files at each use, so that a rotated password or certificate needs no restart) and the
 * text of client errors.
 */
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { BaseOptions, ConnectionPool } from '@platformatic/kafka';
import type { KafkaConnectionPlan, SecretFile } from '../plan/job-plan.ts';
import { messageOf, TriggerJobError } from '../runtime/errors.ts';
import type { SaslCredentials } from './kafka-sasl.ts';

/**
 * What our connections and every client class of @platformatic/kafka take; add the class's own
 * options by spreading.
 */
export type KafkaClientOptions = Pick<
  BaseOptions,
  'clientId' | 'retries' | 'autocreateTopics' | 'tls' | 'tlsServerName'
> & {
  bootstrapBrokers: string[];
  connectTimeout: number;
  requestTimeout: number;
  sasl?: SaslCredentials;
};

const CONNECT_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 30_000;

/**
 * Options for one client. TLS files are read now: make a new client to pick up rotated ones. SASL
 * credentials are read each time a connection authenticates.
 *
 * `retries: 0`: callers own backoff and counting; the library's own loop is invisible to both.
 * Throws TriggerJobError KAFKA_SECRET_UNREADABLE.
 */
export async function kafkaClientOptions(
  connection: KafkaConnectionPlan,
  clientId: string,
): Promise<KafkaClientOptions> {
  const options: KafkaClientOptions = {
    clientId,
    bootstrapBrokers: connection.bootstrapServers,
    connectTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retries: 0,
    autocreateTopics: false,
  };
  const { tls, sasl } = connection;
  if (tls !== undefined) {
    options.tls = {
      ...(tls.ca !== undefined && { ca: await readSecret('tls.ca', tls.ca) }),
      ...(tls.cert !== undefined && { cert: await readSecret('tls.cert', tls.cert) }),
      ...(tls.key !== undefined && { key: await readSecret('tls.key', tls.key) }),
    };
    const named = connection.bootstrapServers.some((server) => isIP(hostOf(server)) === 0);
    // Without a server name no SNI is sent and shared front ends pick the wrong certificate; an
    // IP address is no legal SNI value, so a cluster addressed by IP sends none.
    if (tls.serverName !== undefined) options.tlsServerName = tls.serverName;
    else if (named) options.tlsServerName = true;
  }
  if (sasl !== undefined) {
    options.sasl = {
      mechanism: sasl.mechanism,
      username: () => readCredential('sasl.username', sasl.username),
      password: () => readCredential('sasl.password', sasl.password),
    };
  }
  return options;
}

function hostOf(server: string): string {
  return server.slice(0, server.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}

/**
 * Editors and `kubectl create secret --from-file` leave a line end that is no part of a password.
 */
async function readCredential(field: string, file: SecretFile): Promise<string> {
  return (await readSecret(field, file.path)).toString('utf8').replace(/\r?\n$/, '');
}

async function readSecret(field: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new TriggerJobError(
      'KAFKA_SECRET_UNREADABLE',
      `Kafka connection: ${field} file ${path} cannot be read; mount it or correct the path`,
      { cause, retryable: true },
    );
  }
}

/**
 * One line for a log or a status: the client's aggregate errors hide the broker's answer in
 * `errors`, and their own message says only how often they tried. Total: never throws.
 */
export function kafkaErrorText(thrown: unknown): string {
  if (thrown instanceof AggregateError) {
    const inner = [...new Set(thrown.errors.map(kafkaErrorText))].join('; ');
    return inner === '' ? thrown.message : `${thrown.message} (${inner})`;
  }
  return messageOf(thrown);
}

/**
 * Call with the pool of every client (`client.connections`) before its first request: a connection
 * of @platformatic/kafka reports a second fault (authentication refused, then reset) as an `error`
 * event that nobody listens to by then, which would end the process. Requests get their error
 * anyway.
 */
export function guardConnections(pool: ConnectionPool): void {
  pool.on('connecting', ({ connection }) => {
    connection.on('error', () => {});
  });
}
