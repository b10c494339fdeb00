/** The part of the schema that says where events come from, and Kafka's connection. */
import Type from 'typebox';
import {
  block,
  choice,
  defaulted,
  duration,
  integer,
  list,
  numberOrText,
  size,
  text,
} from './schema-fields.ts';

/** What a Secret's or ConfigMap's name and key may be; neither may leave its mount by `..`. */
export const OBJECT_NAME = '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$';
export const OBJECT_KEY = '^[-_a-zA-Z0-9][-._a-zA-Z0-9]*$';

export function objectName(kind: string, example: string) {
  return text(`Name of the ${kind} in the job's namespace.`, example, {
    pattern: OBJECT_NAME,
    maxLength: 253,
    reason: 'a Kubernetes object name has lower case letters, digits, - and .',
  });
}

export function objectKey(description: string, example: string) {
  return text(description, example, {
    pattern: OBJECT_KEY,
    maxLength: 253,
    reason: 'a key has letters, digits, -, _ and .',
  });
}

export const topicField = (description: string, example: string) =>
  text(description, example, {
    pattern: '^[a-zA-Z0-9_-][a-zA-Z0-9._-]*$',
    maxLength: 249,
    reason: 'a Kafka topic has letters, digits, ., _ and -, and does not begin with a dot',
  });

const RELATIVE_FILE =
  'A relative path starts at the job file, or, with securityRef, is a key of that Secret.';

export const serversField = () =>
  text('Kafka brokers to ask first: host:port, several with commas.', 'kafka:9092', {
    rule: { kind: 'servers' },
  });

/** The same three fields for the source and for the dead letter. */
export const connectionFields = {
  tls: Type.Optional(
    block("TLS to the brokers. `tls: {}` trusts the system's authorities.", {
      ca: Type.Optional(text(`PEM file of the trusted authority. ${RELATIVE_FILE}`, 'ca.crt')),
      cert: Type.Optional(text(`PEM file of the client certificate. ${RELATIVE_FILE}`, 'tls.crt')),
      key: Type.Optional(text(`PEM file of the client's private key. ${RELATIVE_FILE}`, 'tls.key')),
      serverName: Type.Optional(
        text('Name to expect in the server certificate, instead of the host.', 'kafka.internal'),
      ),
    }),
  ),
  sasl: Type.Optional(
    block('SASL login to the brokers. Both files are read again at each connection.', {
      mechanism: choice('Kind of login.', ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512']),
      usernameFile: Type.Optional(
        text(`File with the user name. ${RELATIVE_FILE} With securityRef: username.`, 'username'),
      ),
      passwordFile: Type.Optional(
        text(`File with the password. ${RELATIVE_FILE} With securityRef: password.`, 'password'),
      ),
    }),
  ),
  securityRef: Type.Optional(
    block('Secret that holds the files of tls and sasl; needs one of these two.', {
      name: objectName('Secret', 'kafka-credentials'),
      key: Type.Optional(
        objectKey('Key of the SASL password, if it is not called password.', 'kafka-password'),
      ),
    }),
  ),
};

/** Beyond this a broker's own defaults, the fetch buffers and one event's budget no longer fit. */
const MAX_RECORD_BYTES = 64 * 1024 * 1024;

const maxRecordBytes = () =>
  defaulted(
    size('Largest record, bytes. A larger one goes to the dead letter.', '2Mi', {
      min: 64,
      max: MAX_RECORD_BYTES,
    }),
    '1Mi',
  );

const kafka = block('Reads a Kafka topic; offsets live in checkpoints.', {
  bootstrapServers: serversField(),
  topic: topicField('Topic to read.', 'user-tracking-events'),
  groupId: Type.Optional(
    text(
      'Consumer group to which offsets are written for lag tools; never read. ' +
        'Default: triggerjob.NAMESPACE.NAME.',
      'user-events',
      { maxLength: 255 },
    ),
  ),
  startingOffsets: defaulted(
    choice('Where the first start begins; later starts go on from a checkpoint.', [
      'earliest',
      'latest',
      'timestamp',
    ]),
    'earliest',
  ),
  startingTimestamp: Type.Optional(
    numberOrText(
      'With startingOffsets timestamp: the time to begin at, with its zone, or ms since 1970.',
      '2026-01-31T08:00:00Z',
      'timestamp',
    ),
  ),
  discoveryInterval: defaulted(duration('How often new partitions are looked for.', '1m'), '30s'),
  discoveryHold: defaulted(
    duration('Longest wait of a new partition for the older ones to catch up.', '30m', { min: 0 }),
    '10m',
  ),
  maxRecordBytes: maxRecordBytes(),
  ...connectionFields,
});

const MAX_COUNT = 1_000_000_000;

const datagen = block('Generates a repeatable stream, for demos and tests.', {
  eventsPerSecond: defaulted(
    integer('Events per second, all splits together.', 500, { min: 1, max: 10_000_000 }),
    2000,
  ),
  users: defaulted(integer('Number of users.', 100, { min: 1, max: MAX_COUNT }), 1000),
  seed: defaulted(integer('Same seed, same stream.', 7, { min: 0, max: 4_294_967_295 }), 1),
  splits: defaulted(
    integer('Splits of the stream, like the partitions of a topic.', 8, { min: 1, max: 4096 }),
    4,
  ),
  limit: Type.Optional(
    integer('Events per split, after which it ends. Default: endless.', 10_000, {
      min: 1,
      max: MAX_COUNT,
    }),
  ),
  maxRecordBytes: maxRecordBytes(),
});

const file = block('Reads files with one JSON object per line; the job stays up at their end.', {
  paths: list(
    'Files, each one split.',
    text('A file. A relative path starts at the job file.', 'events.ndjson'),
    { example: ['events.ndjson'], minItems: 1, maxItems: 1024, key: '' },
  ),
  maxRecordBytes: maxRecordBytes(),
});

export const sourceSchema = block(
  'Where events come from: exactly one of kafka, datagen, file.',
  { kafka: Type.Optional(kafka), datagen: Type.Optional(datagen), file: Type.Optional(file) },
  { exactlyOne: ['kafka', 'datagen', 'file'] },
);
