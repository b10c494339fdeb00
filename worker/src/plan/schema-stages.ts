/** The part of the schema for what happens to an event: state, filter, action, dead letter. */
import Type from 'typebox';
import { block, choice, defaulted, duration, flag, integer, size, text } from './schema-fields.ts';
import {
  connectionFields,
  objectKey,
  objectName,
  serversField,
  topicField,
} from './schema-source.ts';

const MEBIBYTE = 1024 * 1024;

/** Record times drive these, no timer does: a year is as good as a minute. */
const NO_TIMER = { max: 10 * 365 * 86_400_000 };

/** Its least value is that of another field, see `waits` in rules.ts. */
const NOT_FIRST = { min: 0 };

const profileApi = block('HTTP service asked once for a user without state. 404 is an answer.', {
  url: text('Base URL; GET URL/users/ID/profile, /visit and /history.', 'http://profile-api', {
    rule: { kind: 'url' },
  }),
  timeout: defaulted(duration('Longest wait for one answer.', '5s'), '2s'),
  maxConcurrent: defaulted(
    integer('Users asked for at the same time, per slot.', 16, { min: 1, max: 10_000 }),
    64,
  ),
  maxResponseBytes: defaulted(
    size('Largest answer, bytes. A larger one is an error of the API.', '8Mi', {
      min: 1024,
      max: 256 * MEBIBYTE,
    }),
    '32Mi',
  ),
  onError: defaulted(
    choice(
      'When the API keeps failing: ask on for ever, send the events to the dead letter, or go on ' +
        'with an empty user.',
      ['retry', 'deadLetter', 'empty'],
    ),
    'retry',
  ),
  maxAttempts: defaulted(
    integer('Attempts before onError deadLetter or empty applies; retry never stops.', 10, {
      min: 1,
      max: 1000,
    }),
    5,
  ),
  initialBackoff: defaulted(duration('Wait before the second attempt; doubles.', '1s'), '200ms'),
  maxBackoff: defaulted(duration('Longest wait between attempts.', '1m', NOT_FIRST), '10s'),
});

export const stateSchema = block('What is kept of each user, and for how long.', {
  ttl: defaulted(
    duration('A user is forgotten after this idle time, by record time.', '24h', NO_TIMER),
    '10m',
  ),
  ttlGrace: defaulted(
    duration('How long after its expiry a user is still stored.', '5m', { ...NO_TIMER, min: 0 }),
    '1m',
  ),
  allowedSkew: defaulted(
    duration('How far ahead of the wall clock a record time may count.', '5m', {
      ...NO_TIMER,
      min: 0,
    }),
    '1m',
  ),
  history: defaulted(
    block('The events kept of each user, which the filter sees as `history`.', {
      maxEvents: defaulted(
        integer('Last events kept per user, a count.', 50, { min: 0, max: 100_000 }),
        100,
      ),
    }),
    {},
  ),
  maxBytesPerUser: defaulted(
    size('Largest state of one user, bytes; beyond it the oldest history is dropped.', '4Mi', {
      min: 4096,
      max: 256 * MEBIBYTE,
    }),
    '16Mi',
  ),
  profileApi: Type.Optional(profileApi),
});

export const filterSchema = block(
  'Decides which events trigger: exactly one of script, scriptFile, scriptFrom.',
  {
    language: defaulted(choice('Language of the script.', ['aviator', 'filtrex']), 'aviator'),
    script: Type.Optional(
      text('The script itself.', 'event.triggerable && user.country == "US"', {
        maxLength: 65_536,
      }),
    ),
    scriptFile: Type.Optional(
      text('File with the script; a relative path starts at the job file.', 'filter.av'),
    ),
    scriptFrom: Type.Optional(
      block('Takes the script from an object of the cluster.', {
        configMapKeyRef: block('The ConfigMap and its key.', {
          name: objectName('ConfigMap', 'user-events-filter'),
          key: objectKey('Key whose value is the script.', 'filter.av'),
        }),
      }),
    ),
    stepBudget: defaulted(
      integer('Steps one evaluation may take before it counts as an error.', 20_000, {
        min: 100,
        max: 100_000_000,
      }),
      100_000,
    ),
  },
  { exactlyOne: ['script', 'scriptFile', 'scriptFrom'] },
);

const webhook = block('Posts each matching event, at least once, with a stable id.', {
  url: text('Where to post.', 'https://example.com/hook', { rule: { kind: 'url' } }),
  timeout: defaulted(duration('Longest wait for one attempt.', '5s'), '10s'),
  deadline: defaulted(
    duration('All attempts and waits of one delivery; then the dead letter.', '1h', NOT_FIRST),
    '10m',
  ),
  maxInFlight: defaulted(
    integer('Deliveries at the same time, per slot.', 16, { min: 1, max: 10_000 }),
    64,
  ),
  initialBackoff: defaulted(duration('Wait before the second attempt; doubles.', '1s'), '500ms'),
  maxBackoff: defaulted(duration('Longest wait between attempts.', '2m', NOT_FIRST), '30s'),
  allowPrivateAddresses: defaulted(
    flag('Whether private, loopback and link-local addresses may be posted to.'),
    false,
  ),
  headers: Type.Optional(
    Type.Record(Type.String(), Type.String({ rule: { kind: 'header' }, maxLength: 8192 }), {
      description: 'Further request headers, name to value. Example: {x-team: growth}.',
      examples: [{ 'x-team': 'growth' }],
      maxProperties: 32,
    }),
  ),
  signingSecretFile: Type.Optional(
    text('File with the signing key of Standard Webhooks, read at each use.', '/secrets/hook'),
  ),
  signingSecretRef: Type.Optional(
    block('Secret with the signing key; instead of signingSecretFile.', {
      name: objectName('Secret', 'webhook'),
      key: objectKey('Key whose value is the signing key.', 'signing-secret'),
    }),
  ),
});

export const actionSchema = block(
  'What a matching event does: exactly one of webhook, debug.',
  {
    webhook: Type.Optional(webhook),
    debug: Type.Optional(block('Prints the enriched event. Write `debug: {}`.', {})),
  },
  { exactlyOne: ['webhook', 'debug'] },
);

export const deadLetterSchema = block(
  'Where events go that could not be handled. Left out: dead-letter/ in the checkpoint directory.',
  {
    kafka: Type.Optional(
      block('Writes them to a Kafka topic, in the cluster of the source if none is named.', {
        topic: topicField('Topic to write to.', 'user-tracking-events-dlq'),
        bootstrapServers: Type.Optional(serversField()),
        ...connectionFields,
      }),
    ),
    file: Type.Optional(
      block('Appends them to a local file, one JSON object per line.', {
        path: text('The file. A relative path starts at the job file.', 'dead-letter.ndjson'),
      }),
    ),
  },
  { exactlyOne: ['kafka', 'file'] },
);
