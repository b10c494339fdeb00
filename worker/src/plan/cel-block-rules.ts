/**
 * What the rules of this folder say of fields within one block, in CEL: kafka-rules.ts,
 * s3-rules.ts, location-rules.ts, rules.ts and kubernetes-rules.ts. `self` is the block. No Flink
 * key sets a field that these rules find missing.
 */
import { about, at, type CelRule, durations, given, quantityOf, quoted } from './cel.ts';
import { HEADER_NAME, OWN_HEADERS } from './header-names.ts';
import { OWN_LABELS, OWN_VARIABLES, OWNED, POD_TEMPLATES } from './kubernetes-rules.ts';

const ABSOLUTE = 'write an absolute path';
const REQUIRED = { reason: 'FieldValueRequired' } as const;
const FORBIDDEN = { reason: 'FieldValueForbidden' } as const;

/** `path` begins with a slash, or `secret` of the block says in which Secret it is a key. */
const absoluteOr = (path: string, secret: string): CelRule =>
  about([
    path,
    `!${given(path)}||has(self.${secret})||${at(path)}.startsWith('/')`,
    `${ABSOLUTE}, or give ${secret}`,
  ]);

/** Of a Kafka connection: the source's, and the dead letter's. */
const connection: readonly CelRule[] = [
  about([
    'securityRef',
    '!has(self.securityRef)||has(self.tls)||has(self.sasl)',
    'names a Secret of which nothing is used: add sasl: {mechanism: ...} or tls: {ca: ca.crt}',
  ]),
  about(
    ['tls.cert', `!${given('tls.key')}||${given('tls.cert')}`, 'is missing: tls.key needs it'],
    REQUIRED,
  ),
  about(
    ['tls.key', `!${given('tls.cert')}||${given('tls.key')}`, 'is missing: tls.cert needs it'],
    REQUIRED,
  ),
  ...['usernameFile', 'passwordFile'].map((name) =>
    about(
      [
        `sasl.${name}`,
        `!has(self.sasl)||has(self.securityRef)||has(self.sasl.${name})`,
        'is missing: name a file with it, or give securityRef',
      ],
      REQUIRED,
    ),
  ),
  ...['tls.ca', 'tls.cert', 'tls.key', 'sasl.usernameFile', 'sasl.passwordFile'].map((path) =>
    absoluteOr(path, 'securityRef'),
  ),
];

const TIMESTAMP = "self.?startingOffsets.orValue('earliest')=='timestamp'";

const kafkaSource: readonly CelRule[] = [
  ...connection,
  about(
    [
      'startingTimestamp',
      `has(self.startingTimestamp)||!(${TIMESTAMP})`,
      'is missing: startingOffsets timestamp needs it, e.g. 2026-01-31T08:00:00Z',
    ],
    REQUIRED,
  ),
  about(
    [
      'startingTimestamp',
      `!has(self.startingTimestamp)||${TIMESTAMP}`,
      'has an effect only with startingOffsets timestamp: remove it',
    ],
    FORBIDDEN,
  ),
];

/** Durations of the block at `block`: the first must not be shorter than the second. */
function atLeast(block: string, longer: string, shorter: string): CelRule {
  return about([
    longer,
    durations(block, [longer, shorter], 't[0]>=t[1]'),
    `must be at least ${shorter}: raise it or lower the other`,
  ]);
}

const API = 'spec.state.profileApi';
const HOOK = 'spec.action.webhook';

const s3: readonly CelRule[] = [
  about([
    'endpoint',
    "!has(self.endpoint)||!self.endpoint.contains('?')",
    'has a query: remove it',
  ]),
  about(
    [
      'secretKeyFile',
      '!has(self.accessKeyFile)||has(self.secretKeyFile)||has(self.credentialsRef)',
      'is missing: accessKeyFile needs it, or give credentialsRef',
    ],
    REQUIRED,
  ),
  about(
    [
      'accessKeyFile',
      '!has(self.secretKeyFile)||has(self.accessKeyFile)||has(self.credentialsRef)',
      'is missing: secretKeyFile needs it, or give credentialsRef',
    ],
    REQUIRED,
  ),
  absoluteOr('accessKeyFile', 'credentialsRef'),
  absoluteOr('secretKeyFile', 'credentialsRef'),
];

const resources: readonly CelRule[] = ['cpu', 'memory', 'ephemeral-storage'].map((name) => {
  const [request, limit] = [`requests.${name}`, `limits.${name}`];
  const amount = (path: string) => quantityOf(at(path));
  return about([
    request,
    `!${given(request)}||!${given(limit)}||${amount(request)}.compareTo(${amount(limit)})<=0`,
    `is more than ${limit}: lower it`,
  ]);
});

const absolute: CelRule = { rule: "self.startsWith('/')", message: ABSOLUTE };

function podTemplateRules(path: string): [string, CelRule[]][] {
  return [
    [
      `${path}.labels`,
      [
        {
          rule: `!self.exists(k,k.matches(${quoted(OWN_LABELS)}))`,
          message: `has a key that ${OWNED}`,
        },
      ],
    ],
    [
      `${path}.env[]`,
      [
        about(['name', `!self.name.matches(${quoted(OWN_VARIABLES)})`, OWNED]),
        about([
          'value',
          '!has(self.value)||!has(self.valueFrom)',
          'stands beside valueFrom: remove one of them',
        ]),
      ],
    ],
    [
      `${path}.tolerations[]`,
      [
        about(
          [
            'key',
            "has(self.key)||self.?operator.orValue('')=='Exists'",
            'is missing: only operator Exists goes without one',
          ],
          REQUIRED,
        ),
        about(
          [
            'value',
            "self.?operator.orValue('')!='Exists'||self.?value.orValue('')==''",
            'has no effect with operator Exists: remove it',
          ],
          FORBIDDEN,
        ),
        about(
          [
            'tolerationSeconds',
            "!has(self.tolerationSeconds)||self.?effect.orValue('')=='NoExecute'",
            'has an effect only with effect NoExecute: remove it',
          ],
          FORBIDDEN,
        ),
      ],
    ],
  ];
}

/** The rules of each block, by its path; `[]` names the entries of a list. */
export const BLOCK_RULES: ReadonlyMap<string, readonly CelRule[]> = new Map<
  string,
  readonly CelRule[]
>([
  ['spec.source.kafka', kafkaSource],
  ['spec.source.file.paths[]', [absolute]],
  [
    API,
    [
      atLeast(API, 'maxBackoff', 'initialBackoff'),
      about([
        'url',
        "!self.url.contains('?')",
        'has a query: remove it, the path /users/ID/... is appended',
      ]),
    ],
  ],
  [
    'spec.filter.script',
    [{ rule: "self.matches('[^ \\\\t\\\\r\\\\n]')", message: 'is blank: write an expression' }],
  ],
  [
    HOOK,
    [
      atLeast(HOOK, 'maxBackoff', 'initialBackoff'),
      atLeast(HOOK, 'deadline', 'timeout'),
      about([
        'signingSecretFile',
        '!has(self.signingSecretFile)||!has(self.signingSecretRef)',
        'stands beside signingSecretRef: remove one of them',
      ]),
    ],
  ],
  [`${HOOK}.signingSecretFile`, [absolute]],
  [
    `${HOOK}.headers`,
    [
      {
        rule: `self.all(k,k.matches(${quoted(HEADER_NAME)}))`,
        message: 'has a key that is no valid header name: remove it',
      },
      {
        rule: `!self.exists(k,k.lowerAscii().matches(${quoted(OWN_HEADERS)}))`,
        message: 'has a header that the webhook sets itself: remove it',
      },
    ],
  ],
  ['spec.deadLetter.kafka', connection],
  ['spec.deadLetter.file.path', [absolute]],
  ['spec.checkpointing.s3', s3],
  ['spec.jobManager.resources', resources],
  ['spec.taskManager.resources', resources],
  ['spec.taskManager.localState.directory', [absolute]],
  ...POD_TEMPLATES.flatMap(podTemplateRules),
]);
