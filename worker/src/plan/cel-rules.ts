/**
 * What rules.ts, location-rules.ts and kafka-rules.ts say of fields far apart, in CEL, as far as
 * the API server can check it; what lies within one block is in cel-block-rules.ts. It sees a spec
 * without its defaults and can't look into flinkConfiguration: a rule judges no default that a
 * Flink key may have replaced.
 *
 * Left to the operator, which runs the very rules of a local run and says in status what is wrong:
 * Flink keys, how memory is divided, savepoints within the folder of the job's own checkpoints
 * (CEL does not know the namespace), and what the script itself says.
 */
import { about, at, type CelRule, durations, given, judged, known, valueAt } from './cel.ts';
import { fieldAt } from './schema-path.ts';

const SLOTS = valueAt('taskManager.slots');
const REPLICAS = 'self.taskManager.replicas';
const ONE_EACH = 'self.?taskManager.?replicas.orValue(1)';
const SUBTASKS = `(has(self.parallelism)?self.parallelism:${SLOTS}*${ONE_EACH})`;
const MOST = valueAt('maxParallelism');

const parallelism: CelRule[] = [
  about(
    [
      'parallelism',
      `!${given('parallelism')}||!${given('taskManager.replicas')}||` +
        `!${known('taskManager.slots')}||self.parallelism<=${REPLICAS}*${SLOTS}`,
      'is more than taskManager.slots x taskManager.replicas: lower it or add replicas',
    ],
    {
      messageExpression:
        "'is %d, more than taskManager.slots x taskManager.replicas (%d x %d): lower it or add " +
        `replicas'.format([self.parallelism,${SLOTS},${REPLICAS}])`,
    },
  ),
  about(
    [
      'parallelism',
      judged('parallelism', 'maxParallelism', `${SUBTASKS}<=${MOST}`),
      'is more than maxParallelism: lower it or raise maxParallelism',
    ],
    {
      messageExpression:
        "'is %d, more than maxParallelism %d: lower it or raise maxParallelism'.format(" +
        `[${SUBTASKS},${MOST}])`,
    },
  ),
];

const NEW_JOB = 'it divides the state that is there; create a new TriggerJob for another one';

/** Not `orValue`, see durations(). */
const KEY = (root: string): string =>
  `(has(${root}.keyBy)?${root}.keyBy:'${fieldAt('spec.keyBy').default}')`;

const immutable: CelRule[] = [
  about(['keyBy', `${KEY('self')}==${KEY('oldSelf')}`, `is immutable: ${NEW_JOB}`]),
  about([
    'maxParallelism',
    `!${known('maxParallelism')}||!${known('maxParallelism', 'oldSelf')}||` +
      `${MOST}==${valueAt('maxParallelism', 'oldSelf')}`,
    `is immutable: ${NEW_JOB}`,
  ]),
];

/** `longer` must be `relation` to `shorter` x `factor`. */
function compared(longer: string, relation: '>' | '>=', shorter: string, factor = 1): CelRule {
  const least = factor === 1 ? 't[1]' : `${factor}*t[1]`;
  const times = factor === 1 ? '' : `${factor} times `;
  return about([
    longer,
    judged(longer, shorter, durations('spec', [longer, shorter], `t[0]${relation}${least}`)),
    `must be ${relation === '>' ? 'more than' : 'at least'} ${times}${shorter}`,
  ]);
}

const REST = valueAt('jobManager.rest.port');
const RPC = valueAt('jobManager.rpc.port');
const TYPE = valueAt('restartStrategy.type');
const TYPE_KNOWN = known('restartStrategy.type');

const strategy = (block: string, type: string): CelRule =>
  about(
    [
      `restartStrategy.${block}`,
      `!${given(`restartStrategy.${block}`)}||!${TYPE_KNOWN}||${TYPE}=='${type}'`,
      `has an effect only with restartStrategy.type ${type}: remove it, or write ${type}`,
    ],
    { reason: 'FieldValueForbidden' },
  );

const processes: CelRule[] = [
  compared('heartbeat.timeout', '>=', 'heartbeat.interval', 2),
  compared('jobManager.leaderElection.lease', '>', 'jobManager.leaderElection.renewDeadline'),
  compared('jobManager.leaderElection.renewDeadline', '>', 'jobManager.leaderElection.retryPeriod'),
  compared(
    'restartStrategy.exponentialDelay.maxBackoff',
    '>=',
    'restartStrategy.exponentialDelay.initialBackoff',
  ),
  strategy('exponentialDelay', 'exponential-delay'),
  strategy('fixedDelay', 'fixed-delay'),
  strategy('failureRate', 'failure-rate'),
  about([
    'jobManager.rpc.port',
    judged('jobManager.rpc.port', 'jobManager.rest.port', `${RPC}==0||${RPC}!=${REST}`),
    'is the same as jobManager.rest.port: give it its own',
  ]),
  about([
    'upgrade.healthTimeout',
    `!${given('upgrade.healthTimeout')}||!${known('checkpointing.interval')}||` +
      durations('spec', ['upgrade.healthTimeout', 'checkpointing.interval'], 't[0]>t[1]'),
    'must be more than checkpointing.interval: raise it',
  ]),
];

/** `s3://b/a`, `/a/` and `file:///a` in one form. */
const folder = (path: string): string => `${at(path)}.replace('file://','').find('^.*[^/]')`;

const DLQ = 'deadLetter.kafka';

const places: CelRule[] = [
  about(
    [
      'checkpointing.directory',
      `${given('checkpointing.directory')}||has(self.flinkConfiguration)`,
      'is missing: name a store that outlives the pods, for example s3://flink-checkpoints/',
    ],
    { reason: 'FieldValueRequired' },
  ),
  about([
    'savepoints.directory',
    `!${given('savepoints.directory')}||!${given('checkpointing.directory')}||` +
      `${folder('savepoints.directory')}!=${folder('checkpointing.directory')}`,
    'is where checkpointing.directory keeps checkpoints: name another directory',
  ]),
  about(
    [
      `${DLQ}.bootstrapServers`,
      `!has(self.deadLetter)||!has(self.deadLetter.kafka)||has(self.source.kafka)||` +
        given(`${DLQ}.bootstrapServers`),
      'is missing: the source is not Kafka, so name the brokers',
    ],
    { reason: 'FieldValueRequired' },
  ),
  about([
    `${DLQ}.topic`,
    `!${given(`${DLQ}.topic`)}||!has(self.source.kafka)||` +
      `${at(`${DLQ}.topic`)}!=self.source.kafka.topic||(${given(`${DLQ}.bootstrapServers`)}&&` +
      `${at(`${DLQ}.bootstrapServers`)}!=self.source.kafka.bootstrapServers)`,
    'is the topic of the source: name another one',
  ]),
  about(
    [
      'serviceAccount.annotations',
      `!${given('serviceAccount.annotations')}||!${given('serviceAccount.name')}`,
      'have no effect on an account that is there already: remove them, or the name',
    ],
    { reason: 'FieldValueForbidden' },
  ),
];

/** On `spec`: what spans its parts. */
export const SPEC_RULES: readonly CelRule[] = [
  ...parallelism,
  ...immutable,
  ...processes,
  ...places,
];
