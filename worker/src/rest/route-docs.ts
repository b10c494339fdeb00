/** What each path is for, in one line, with its query and body: for openapi.ts. */

export interface RouteDoc {
  summary: string;
  /** By name. */
  query?: Readonly<Record<string, string>>;
  body?: Readonly<Record<string, { type: 'string' | 'boolean'; text: string }>>;
}

const JOB = '/jobs/:jobid';
const VERTEX = `${JOB}/vertices/:vertexid`;
const SUBTASK = `${VERTEX}/subtasks/:subtaskindex`;
const OWN = '/api/v1/jobs/:jobid';
const TASK_MANAGER = '/taskmanagers/:taskmanagerid';

const GET = { get: 'Metric ids, with commas; without it ids alone are answered.' };
const AGG = { ...GET, agg: 'Of min, max, sum, avg, with commas; all of them if left out.' };
const TRIGGER = {
  triggerId: {
    type: 'string',
    text: 'Chosen by the client: the same one never starts a second operation.',
  },
} as const;

const READS: Readonly<Record<string, RouteDoc | string>> = {
  '/overview': 'TaskManagers, slots and jobs in numbers.',
  '/config': "Settings of Flink's web page.",
  '/jobs': 'The job and its status.',
  '/jobs/overview': 'The job with its times and the states of its tasks.',
  '/jobs/metrics': {
    summary: 'Metrics of jobs, aggregated.',
    query: { ...AGG, jobs: 'Job ids, with commas; all if left out.' },
  },
  [JOB]: 'The job with its four vertices, their figures and its plan.',
  [`${JOB}/status`]: 'Its status.',
  [`${JOB}/config`]: 'Its settings.',
  [`${JOB}/plan`]: 'Its vertices and how they are joined.',
  [`${JOB}/exceptions`]: {
    summary: 'What has restarted or failed it, newest first, and the first cause.',
    query: {
      maxExceptions: 'How many; 20 if left out.',
      failureLabelFilter: 'key:value, with commas; the label is attempt.',
    },
  },
  [`${JOB}/accumulators`]: 'There are none.',
  [`${JOB}/execution-result`]: 'How it ended, for who waits for that.',
  [`${JOB}/metrics`]: { summary: 'Metrics of the job.', query: GET },
  [`${JOB}/resource-requirements`]: 'The parallelism that is wanted.',
  [`${JOB}/checkpoints`]: 'Counts, summary, newest ones and history of checkpoints.',
  [`${JOB}/checkpoints/config`]: 'Settings of checkpointing.',
  [`${JOB}/checkpoints/details/:checkpointid`]: 'One checkpoint with its vertices.',
  [`${JOB}/checkpoints/details/:checkpointid/subtasks/:vertexid`]:
    'One checkpoint with the durations of each subtask.',
  [`${JOB}/checkpoints/:triggerid`]: 'How a checkpoint that was asked for went.',
  [`${JOB}/savepoints/:triggerid`]: 'How a savepoint, or a stop with one, went.',
  [`${JOB}/rescaling/:triggerid`]: 'How a rescale went.',
  [`${JOB}/disposal/:triggerid`]: 'How the disposal of all that the job has stored went.',
  [`${JOB}/yarn-cancel`]: 'Cancels the job, for clients that can only GET.',
  [VERTEX]: 'One vertex with its subtasks.',
  [`${VERTEX}/backpressure`]: 'Its subtasks: backpressured, idle and busy.',
  [`${VERTEX}/taskmanagers`]: 'Its subtasks by TaskManager.',
  [`${VERTEX}/subtasktimes`]: 'When its subtasks entered their states.',
  [`${VERTEX}/watermarks`]: 'There are none.',
  [`${VERTEX}/accumulators`]: 'There are none.',
  [`${VERTEX}/flamegraph`]: {
    summary: 'Not available: answers as Flink does where it is switched off.',
    query: { type: 'FULL, ON_CPU or OFF_CPU.' },
  },
  [`${VERTEX}/metrics`]: { summary: 'Metrics of its subtasks, by index.', query: GET },
  [`${VERTEX}/jm-operator-metrics`]: 'There are none.',
  [`${VERTEX}/subtasks/accumulators`]: 'There are none.',
  [`${VERTEX}/subtasks/metrics`]: {
    summary: 'Metrics of its subtasks, aggregated.',
    query: { ...AGG, subtasks: 'Indexes and ranges, 0,2-4; all if left out.' },
  },
  [SUBTASK]: 'One subtask.',
  [`${SUBTASK}/attempts/:attempt`]: 'One subtask, if it is in that attempt.',
  [`${SUBTASK}/metrics`]: { summary: 'Metrics of one subtask.', query: GET },
  '/taskmanagers': 'All TaskManagers.',
  '/taskmanagers/metrics': {
    summary: 'Metrics of TaskManagers, aggregated.',
    query: { ...AGG, taskmanagers: 'Their ids, with commas; all if left out.' },
  },
  [TASK_MANAGER]: 'One TaskManager with its memory and slots.',
  [`${TASK_MANAGER}/metrics`]: { summary: 'Metrics of one TaskManager.', query: GET },
  [`${TASK_MANAGER}/logs`]: 'Its logs by name.',
  [`${TASK_MANAGER}/logs/:filename`]: 'The newest lines of one of them.',
  [`${TASK_MANAGER}/log`]: 'The newest lines of its log.',
  [`${TASK_MANAGER}/stdout`]: 'The same: one stream holds both.',
  [`${TASK_MANAGER}/thread-dump`]: 'Its slot threads by their figures.',
  '/jobmanager/config': 'Settings by their keys.',
  '/jobmanager/environment': 'What it runs on.',
  '/jobmanager/metrics': { summary: 'Metrics of the JobManager.', query: GET },
  '/jobmanager/logs': 'Its logs by name.',
  '/jobmanager/logs/:filename': 'The newest lines of one of them.',
  '/jobmanager/log': 'The newest lines of its log.',
  '/jobmanager/stdout': 'The same: one stream holds both.',
  '/jobmanager/thread-dump': 'What its thread waits for.',
  '/savepoint-disposal/:triggerid': 'How the disposal of a savepoint went.',
  '/metrics': 'All metrics, for Prometheus.',
  '/api/v1/details': 'The job for the command line: figures, lag, last checkpoint.',
  '/api/v1/status': 'The job for its operator.',
  [`${OWN}/series`]: {
    summary: 'Figures of the last hour, for charts.',
    query: { minutes: 'Of them, the newest so many; 60 if left out.' },
  },
  [`${OWN}/diagnosis`]: 'Why it is slow, in one sentence.',
  [`${OWN}/users/:userid`]: {
    summary: "One user's state, history and last decisions.",
    query: { historyLimit: 'Newest events that are shown.' },
  },
  [`${OWN}/hot-keys`]: {
    summary: 'Users that cost most.',
    query: { by: 'events, bytes or state.', top: 'How many.' },
  },
  [`${OWN}/ledger`]: 'Where every accepted event is, now and at each checkpoint.',
  [`${OWN}/tap`]: {
    summary: 'Records as they pass, as server-sent events.',
    query: {
      stage: 'source, keyed, enriched, matched, fired or dropped.',
      user: 'Of this user alone.',
      limit: 'Ends after so many.',
    },
  },
  '/api/v1/openapi.json': 'This description.',
};

const WRITES: Readonly<Record<string, RouteDoc>> = {
  [`POST ${JOB}/savepoints`]: {
    summary: 'Takes a savepoint, and cancels the job after it if told to.',
    body: {
      'target-directory': { type: 'string', text: "In place of the job's." },
      formatType: { type: 'string', text: 'CANONICAL or NATIVE: there is one format.' },
      'cancel-job': { type: 'boolean', text: 'Default false.' },
      ...TRIGGER,
    },
  },
  [`POST ${JOB}/stop`]: {
    summary: 'Stops the sources, takes a savepoint and ends the job.',
    body: {
      targetDirectory: { type: 'string', text: "In place of the job's." },
      formatType: { type: 'string', text: 'CANONICAL or NATIVE: there is one format.' },
      drain: { type: 'boolean', text: 'What is under way is delivered first. Default false.' },
      ...TRIGGER,
    },
  },
  [`POST ${JOB}/checkpoints`]: {
    summary: 'Takes a checkpoint.',
    body: {
      checkpointType: {
        type: 'string',
        text: 'CONFIGURED, FULL or INCREMENTAL: there is one type.',
      },
      ...TRIGGER,
    },
  },
  [`PUT ${JOB}/resource-requirements`]: {
    summary: 'Asks for another parallelism, the same upperBound for all vertices.',
  },
  [`PATCH ${JOB}`]: { summary: 'Cancels the job.', query: { mode: 'cancel, or left out.' } },
  [`PATCH ${JOB}/rescaling`]: {
    summary: 'Asks for another parallelism.',
    query: { parallelism: 'From 1 to maxParallelism.' },
    body: TRIGGER,
  },
  [`POST ${OWN}/explain`]: {
    summary: 'Runs the filter on an event and state, and shows which clause decided.',
  },
  [`POST ${JOB}/disposal`]: {
    summary: 'Deletes all that the job has stored; the job ends by it.',
    body: TRIGGER,
  },
  'POST /savepoint-disposal': {
    summary: 'Deletes a savepoint.',
    body: { 'savepoint-path': { type: 'string', text: 'Where it lies.' }, ...TRIGGER },
  },
};

/** null: nobody has written what it is for. */
export function docOf(method: string, path: string): RouteDoc | null {
  const found = method === 'GET' ? READS[path] : WRITES[`${method} ${path}`];
  if (found === undefined) return null;
  return typeof found === 'string' ? { summary: found } : found;
}
