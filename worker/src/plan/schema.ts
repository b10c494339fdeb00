/**
 * The TriggerJob: the one source of its TypeScript type, its validation (validate.ts) and its CRD
 * (crd.ts). Every field says its unit, default and an example; rules that span fields are in
 * rules.ts.
 */
import Type from 'typebox';
import { block, type Complete, choice, defaulted, integer, text } from './schema-fields.ts';
import { kubernetesFields } from './schema-kubernetes.ts';
import {
  checkpointingSchema,
  exchangeSchema,
  heartbeatSchema,
  jobManagerSchema,
  restartStrategySchema,
  restoreSchema,
  savepointsSchema,
  scalingSchema,
  securitySchema,
  taskManagerSchema,
} from './schema-runtime.ts';
import { sourceSchema } from './schema-source.ts';
import { actionSchema, deadLetterSchema, filterSchema, stateSchema } from './schema-stages.ts';

const API_VERSION = 'triggerjob.io/v1alpha1';

/** Key groups are 16-bit numbers in the segment format, as in Flink. */
const MAX_KEY_GROUPS = 32_768;

/**
 * A pod's label `controller-revision-hash` is NAME-taskmanager-HASH and must fit into 63
 * characters; a longer name would be accepted and its pods never start.
 */
const MAX_NAME_LENGTH = 40;

export const specSchema = block('What the job is to do.', {
  parallelism: Type.Optional(
    integer('Subtasks of every stage. Default: taskManager.replicas x taskManager.slots.', 4, {
      min: 1,
      max: MAX_KEY_GROUPS,
    }),
  ),
  maxParallelism: defaulted(
    integer('Number of key groups, fixed for the life of the state.', 128, {
      min: 1,
      max: MAX_KEY_GROUPS,
    }),
    1024,
  ),
  source: sourceSchema,
  keyBy: defaulted(
    text('Top-level field of the event that names the user.', 'user_id', {
      pattern: '^[^.\\[\\]"\\\\\\s]+$',
      maxLength: 256,
      reason: 'it names one top-level field of the event, not a path and not an expression',
    }),
    'user_id',
  ),
  state: defaulted(stateSchema, {}),
  filter: filterSchema,
  action: actionSchema,
  deadLetter: Type.Optional(deadLetterSchema),
  checkpointing: defaulted(checkpointingSchema, {}),
  savepoints: defaulted(savepointsSchema, {}),
  restore: defaulted(restoreSchema, {}),
  upgradeMode: defaulted(
    choice('What a changed spec is restarted from, in a cluster.', [
      'savepoint',
      'last-state',
      'stateless',
    ]),
    'savepoint',
  ),
  restartStrategy: defaulted(restartStrategySchema, {}),
  jobManager: defaulted(jobManagerSchema, {}),
  taskManager: defaulted(taskManagerSchema, {}),
  heartbeat: defaulted(heartbeatSchema, {}),
  scaling: defaulted(scalingSchema, {}),
  exchange: defaulted(exchangeSchema, {}),
  security: defaulted(securitySchema, {}),
  ...kubernetesFields,
  flinkConfiguration: defaulted(
    Type.Unsafe<Record<string, unknown>>({
      type: 'object',
      description:
        'Flink configuration keys, nested or dotted; flink-key-table.ts says what each does. ' +
        'Example: {execution.checkpointing.interval: 60s}.',
    }),
    {},
  ),
});

const anything = (description: string) => Type.Optional(Type.Unknown({ description }));
const strings = (description: string) =>
  Type.Optional(Type.Record(Type.String(), Type.String(), { description }));

/** What the API server adds; accepted so that a live object validates as it is. */
const SET_BY_SERVER = 'Set by Kubernetes.';

const metadataSchema = block('Kubernetes object metadata.', {
  name: text('Name of the job.', 'user-events', {
    pattern: '^[a-z]([-a-z0-9]*[a-z0-9])?$',
    maxLength: MAX_NAME_LENGTH,
    reason:
      'it begins names of Services and pods: lower case letters, digits and -, a letter first',
  }),
  namespace: defaulted(
    text('Namespace of the job.', 'triggers', {
      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
      maxLength: 63,
      reason: 'a namespace has lower case letters, digits and -',
    }),
    'default',
  ),
  labels: strings('Kubernetes labels.'),
  annotations: strings('Kubernetes annotations.'),
  uid: anything(SET_BY_SERVER),
  resourceVersion: anything(SET_BY_SERVER),
  generation: anything(SET_BY_SERVER),
  creationTimestamp: anything(SET_BY_SERVER),
  deletionTimestamp: anything(SET_BY_SERVER),
  deletionGracePeriodSeconds: anything(SET_BY_SERVER),
  finalizers: anything(SET_BY_SERVER),
  ownerReferences: anything(SET_BY_SERVER),
  managedFields: anything(SET_BY_SERVER),
});

export const triggerJobSchema = block('A job that triggers actions from a stream of events.', {
  apiVersion: choice('Version of this schema.', [API_VERSION]),
  kind: choice('Kind of object.', ['TriggerJob']),
  metadata: metadataSchema,
  spec: specSchema,
  status: anything('Written by the operator.'),
});

/** A TriggerJob as the user writes it. */
export type TriggerJob = Type.Static<typeof triggerJobSchema>;

/** A TriggerJob with its defaults filled in; made by defaults.ts. */
export type CompleteTriggerJob = Complete<typeof triggerJobSchema>;
