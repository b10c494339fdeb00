/**
 * The status of a TriggerJob: the one source of its TypeScript type and of its part of the CRD.
 * Only the operator writes it, and it writes here what it is about to do before it does it: a
 * successor goes on from this alone (decide/).
 */
import Type from 'typebox';
import { block, choice, flag, integer, text } from './schema-fields.ts';

const MAX_COUNT = Number.MAX_SAFE_INTEGER;

const count = (description: string, example = 4) =>
  Type.Optional(integer(description, example, { min: 0, max: MAX_COUNT }));
const time = (description: string) =>
  Type.Optional(
    Type.String({
      description: `${description} RFC 3339, UTC. Example: 2026-11-25T10:00:00Z.`,
      examples: ['2026-11-25T10:00:00Z'],
      format: 'date-time',
    }),
  );
const words = (description: string, example: string) =>
  Type.Optional(text(description, example, { minLength: 0, maxLength: Number.MAX_SAFE_INTEGER }));

/** What a user reads in the column STATE. */
const JOB_STATES = [
  'Pending',
  'Deploying',
  'Running',
  'Restarting',
  'Scaling',
  'Upgrading',
  'RollingBack',
  'Suspending',
  'Suspended',
  'Finished',
  'Failed',
  'Deleting',
] as const;

/** A request made by annotation, and what became of it; the same token is acted on once. */
const request = (description: string) =>
  Type.Optional(
    block(description, {
      requestToken: words('Value of the annotation.', '1764064800'),
      phase: Type.Optional(
        choice('How far it is.', ['Pending', 'InProgress', 'Completed', 'Failed']),
      ),
      triggerId: words('Its id at the JobManager, the same over retries.', 'annotation-1764064800'),
      location: words('What was written.', 's3://flink-savepoints/triggers/user-events/sp-12/'),
      bytes: count('Size of what was written, in bytes.', 1_048_576),
      duration: words('From the request to the end.', '2.4s'),
      startedAt: time('When it was asked for.'),
      completedAt: time('When it ended.'),
      error: words('Why it failed, and what to do.', 'no JobManager leads'),
    }),
  );

const operation = Type.Optional(
  block('What the operator is doing, over several steps; absent when there is nothing to do.', {
    kind: choice('What is done.', [
      'Deploy',
      'Upgrade',
      'Rollback',
      'Suspend',
      'Resume',
      'Restart',
      'Scale',
      'Delete',
    ]),
    step: choice('Which step is under way; it is written before it is taken.', [
      'Stopping',
      'ScalingDown',
      'Deploying',
      'Stabilizing',
      'Cleaning',
    ]),
    /** Which way the state takes. */
    mode: Type.Optional(
      choice('Where the state comes from afterwards.', ['savepoint', 'last-state', 'stateless']),
    ),
    generation: count('metadata.generation of the spec it leads to.', 3),
    triggerId: words('Id of its savepoint at the JobManager.', 'upgrade-3'),
    savepoint: words('The savepoint it made.', 's3://flink-savepoints/triggers/user-events/sp-12/'),
    startedAt: time('When it began.'),
    stepStartedAt: time('When the step began.'),
    waitingSince: time('Since when no savepoint can be made.'),
    stoppedAt: time('When the tasks stopped.'),
    reason: words('Why it is done.', 'spec.taskManager.resources changed'),
    error: words('What went wrong last.', 'timeout'),
  }),
);

const condition = block('One condition, as kstatus and kubectl wait read it.', {
  type: text('Name of the condition.', 'Ready'),
  status: choice('Whether it holds.', ['True', 'False', 'Unknown']),
  observedGeneration: count('metadata.generation it speaks of.', 3),
  lastTransitionTime: time('When status changed last.'),
  reason: text('One stable word.', 'Running'),
  message: words('For a human.', 'all 4 subtasks run; checkpoint 12 completed 20 s ago'),
});

export const statusSchema = block('What the operator sees and does. Written by it alone.', {
  observedGeneration: count('metadata.generation that this status speaks of.', 3),
  state: Type.Optional(choice('The job in one word.', [...JOB_STATES])),
  summary: words('The job in one sentence: why it is in this state and what happens next.', ''),
  ready: words('TaskManagers ready, of those wanted.', '4/4'),
  replicas: count('TaskManager pods (scale subresource).'),
  selector: words('Label selector of the TaskManager pods (scale subresource).', 'a=b'),
  parallelism: count('Subtasks of every stage that run now.'),
  lag: count('Records in the topic that are not processed yet.', 120),
  restarts: count('Restarts of the tasks since the run began.', 0),
  run: count('Deployments so far; the JobManager gets it as --run.', 2),
  deployedAt: time('When that deployment was decided.'),
  runFrom: Type.Optional(
    block('What that deployment began with.', {
      mode: choice('Where its state came from.', ['fresh', 'savepoint', 'last-state', 'stateless']),
      savepoint: words('The savepoint.', 's3://sp/12'),
    }),
  ),
  resumeFrom: Type.Optional(
    block('What a suspended job goes on from; only while it is suspended.', {
      mode: choice('Where its state comes from.', ['savepoint', 'last-state', 'stateless']),
      savepoint: words('The savepoint.', 's3://sp/12'),
    }),
  ),
  lastCheckpoint: Type.Optional(
    block('The newest completed checkpoint.', {
      id: count('Its number.', 12),
      completedAt: time('When it completed.'),
      bytes: count('Bytes that it uploaded.', 1_048_576),
      durationMs: count('From trigger to completion, in milliseconds.', 412),
      location: words('Its manifest.', 's3://flink-checkpoints/triggers/user-events/chk-12/'),
    }),
  ),
  savepoint: request('The savepoint last asked for by annotation triggerjob.io/savepoint.'),
  checkpoint: request('The checkpoint last asked for by annotation triggerjob.io/checkpoint.'),
  restart: request('The restart last asked for by annotation triggerjob.io/restart.'),
  lastSavepoint: words('The newest savepoint that the operator knows of.', ''),
  operation,
  lastUpgrade: Type.Optional(
    block('The last change of spec that took effect.', {
      kind: words('What it was.', 'Upgrade'),
      mode: words('Where the state came from.', 'savepoint'),
      generation: count('metadata.generation that it led to.', 3),
      startedAt: time('When it began.'),
      completedAt: time('When the job ran again.'),
      pauseMs: count('From the stop of the tasks until they ran again, in milliseconds.', 4_200),
      rolledBack: Type.Optional(flag('Whether it was taken back.')),
      error: words('Why it was taken back.', 'no checkpoint completed within 10m'),
    }),
  ),
  deployedSpec: words('The spec that runs, as JSON; what a bad one is compared with.', '{}'),
  deployedGeneration: count('metadata.generation of deployedSpec.', 3),
  podsGeneration: count('metadata.generation that the pods were last made anew for.', 3),
  stableSpec: words('The spec that was healthy last, as JSON; where a rollback goes.', '{}'),
  stableGeneration: count('metadata.generation of stableSpec.', 3),
  rejectedGeneration: count('metadata.generation that was taken back; not tried again.', 4),
  error: words('What is wrong with the spec or the job, and what to do.', ''),
  conditions: Type.Optional(
    Type.Array(condition, {
      maxItems: 16,
      description: 'What holds of the job, one entry per type.',
      uniqueBy: 'type',
    }),
  ),
});

/** The status of a TriggerJob. */
export type TriggerJobStatus = Type.Static<typeof statusSchema>;
export type JobState = (typeof JOB_STATES)[number];
export type JobOperation = NonNullable<TriggerJobStatus['operation']>;
export type JobCondition = Type.Static<typeof condition>;
