/**
 * The part of the schema that only a cluster reads: images, pods, upgrades, deletion. A local run
 * checks these fields too and does nothing with them, so that one file drives both.
 */
import Type from 'typebox';
import { block, choice, defaulted, duration, flag, integer, list, text } from './schema-fields.ts';
import { OBJECT_NAME, objectName } from './schema-source.ts';

/** A key of a label or an annotation: `team`, `example.com/team`. */
const QUALIFIED_NAME = '^([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9]([\\w.-]{0,61}[A-Za-z0-9])?$';
const LABEL_VALUE = '^([A-Za-z0-9]([\\w.-]*[A-Za-z0-9])?)?$';
const ENV_NAME = '^[-._a-zA-Z][-._a-zA-Z0-9]*$';

const SECOND_MS = 1000;

/** An object that Kubernetes alone judges: its form is the one of a Pod. */
const open = (description: string) =>
  Type.Optional(Type.Unsafe<Record<string, unknown>>({ type: 'object', description }));

const NAMES = {
  maxProperties: 64,
  keys: 'a name, or PREFIX/name, of letters, digits, -, _ and .',
};

const labels = (description: string, example: Record<string, string>) =>
  Type.Optional(
    Type.Record(
      Type.String({ pattern: QUALIFIED_NAME }),
      Type.String({
        pattern: LABEL_VALUE,
        maxLength: 63,
        reason: 'a label has letters, digits, -, _ and .',
      }),
      { description: withMap(description, example), examples: [example], ...NAMES },
    ),
  );

const annotations = (description: string, example: Record<string, string>) =>
  Type.Optional(
    Type.Record(Type.String({ pattern: QUALIFIED_NAME }), Type.String({ maxLength: 16_384 }), {
      description: withMap(description, example),
      examples: [example],
      ...NAMES,
    }),
  );

function withMap(description: string, example: Record<string, string>): string {
  const [entry = ['', '']] = Object.entries(example);
  return `${description} Default: none. Example: {${entry[0]}: ${entry[1]}}.`;
}

const toleration = block('One taint that pods bear.', {
  key: Type.Optional(text('Key of the taint. Default: every key.', 'dedicated')),
  operator: Type.Optional(
    choice('Exists takes no value. Kubernetes default: Equal.', ['Equal', 'Exists']),
  ),
  value: Type.Optional(
    text('Value of the taint. Default: "".', 'stream', { minLength: 0, maxLength: 63 }),
  ),
  effect: Type.Optional(
    choice('Default: every effect.', ['NoSchedule', 'PreferNoSchedule', 'NoExecute']),
  ),
  tolerationSeconds: Type.Optional(
    integer('Seconds that NoExecute is borne. Default: for ever.', 60, {
      min: 0,
      max: 2_147_483_647,
    }),
  ),
});

const variable = block('One environment variable.', {
  name: text('Its name.', 'HTTPS_PROXY', {
    pattern: ENV_NAME,
    maxLength: 256,
    reason: 'a variable has letters, digits, -, _ and ., no digit first',
  }),
  value: Type.Optional(
    text('Its value; or give valueFrom. Default: "".', 'http://proxy:3128', {
      minLength: 0,
      maxLength: 32_768,
    }),
  ),
  valueFrom: open('secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef, as in a Pod.'),
});

const anything = Type.Unsafe<Record<string, unknown>>({ type: 'object' });

/** Of all pods, or of one component: its fields take the place of the common ones. */
export const podTemplate = (whose: string) =>
  Type.Optional(
    block(`What is added to ${whose}.`, {
      labels: labels('Labels, beside those of the operator.', { team: 'growth' }),
      annotations: annotations('Annotations.', { 'example.com/team': 'growth' }),
      nodeSelector: labels('Labels that a node must have.', { disk: 'nvme' }),
      tolerations: Type.Optional(
        list('Taints that pods bear. Default: none.', toleration, {
          example: [{ key: 'dedicated', operator: 'Exists' }],
          maxItems: 32,
        }),
      ),
      affinity: open(
        'nodeAffinity, podAffinity, podAntiAffinity, as in a Pod. Default: pods of one component ' +
          'on different nodes, preferred.',
      ),
      priorityClassName: Type.Optional(
        text("PriorityClass. Default: the cluster's own.", 'stream', {
          pattern: OBJECT_NAME,
          maxLength: 253,
          reason: 'a Kubernetes object name has lower case letters, digits, - and .',
        }),
      ),
      env: Type.Optional(
        list('Environment variables of the container. Default: none.', variable, {
          example: [{ name: 'HTTPS_PROXY', value: 'http://proxy:3128' }],
          maxItems: 100,
          key: 'name',
        }),
      ),
      topologySpreadConstraints: Type.Optional(
        list('How pods spread over zones. Default: evenly, preferred. As in a Pod.', anything, {
          example: [
            {
              maxSkew: 1,
              topologyKey: 'topology.kubernetes.io/zone',
              whenUnsatisfiable: 'ScheduleAnyway',
            },
          ],
          maxItems: 8,
        }),
      ),
    }),
  );

export const lostNodeTimeout = () =>
  defaulted(
    duration(
      'A pod that waits this long for the lost node of its volume gets a new, empty volume; its ' +
        'state comes from the checkpoint. Also: from a deleted pod that stays on a node that is ' +
        'not ready to condition Stalled (PodStuck).',
      '10m',
      { min: SECOND_MS },
    ),
    '5m',
  );

/** Fields of spec itself. */
export const kubernetesFields = {
  image: Type.Optional(
    text("Image of the job's pods. Default: the operator's setting.", 'registry/worker:1.0', {
      pattern: '^[^\\s]+$',
      maxLength: 512,
      reason: 'an image has no blanks',
    }),
  ),
  imagePullPolicy: Type.Optional(
    choice('When the image is pulled. Default: IfNotPresent, with the tag latest Always.', [
      'IfNotPresent',
      'Always',
      'Never',
    ]),
  ),
  imagePullSecrets: Type.Optional(
    list(
      'Secrets that the image is pulled with. Default: none.',
      block('One Secret.', { name: objectName('Secret', 'registry') }),
      { example: [{ name: 'registry' }], maxItems: 16, key: 'name' },
    ),
  ),
  suspend: defaulted(
    flag('true stops the job with its state kept (as upgradeMode says) and ends its pods.'),
    false,
  ),
  deletionPolicy: defaulted(
    choice(
      'What becomes of the state when the TriggerJob is deleted: Retain leaves the checkpoints, ' +
        'Savepoint takes a savepoint first, Delete removes the checkpoints and the savepoints ' +
        'that this job took in savepoints.directory; an Event names what could not be removed.',
      ['Retain', 'Savepoint', 'Delete'],
    ),
    'Retain',
  ),
  deletionTimeout: defaulted(
    duration('Longest wait for what deletionPolicy asks; then the object goes.', '10m', {
      min: SECOND_MS,
    }),
    '5m',
  ),
  upgrade: defaulted(
    block('When a changed spec counts as good.', {
      healthTimeout: defaulted(
        duration('Longest wait for a checkpoint of the changed job.', '30m', { min: SECOND_MS }),
        '10m',
      ),
      rollback: defaulted(flag('Goes back to the last good spec after healthTimeout.'), true),
    }),
    {},
  ),
  serviceAccount: defaulted(
    block("ServiceAccount of the job's pods.", {
      name: Type.Optional(
        text(
          'One that is there, with get, create and update on Leases. Default: the operator makes ' +
            'NAME-jobmanager and NAME-taskmanager.',
          'stream',
          {
            pattern: OBJECT_NAME,
            maxLength: 253,
            reason: 'a Kubernetes object name has lower case letters, digits, - and .',
          },
        ),
      ),
      annotations: annotations('Annotations of those that the operator makes.', {
        'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/stream',
      }),
    }),
    {},
  ),
  podTemplate: podTemplate('all pods of the job; a component may say otherwise'),
  networkPolicy: defaulted(
    block('NetworkPolicies of the pods.', {
      enabled: defaulted(
        flag(
          'Only pods of the job reach its RPC and shuffle ports, where the cluster enforces it.',
        ),
        true,
      ),
    }),
    {},
  ),
};
