/** The job's figures over the last hour, and what they say. */
import { type Sample, STEP_SECONDS } from '../jobmanager/job-series.ts';
import type { JobControl, JobView } from '../jobmanager/job-view.ts';
import { diagnose } from './diagnosis.ts';
import { RestError } from './rest-error.ts';
import type { Route, RouteRequest } from './router.ts';

const MAX_MINUTES = 60;

export function figuresRoutes(control: JobControl): Route[] {
  const get = (path: string, answer: (view: JobView, request: RouteRequest) => object): Route => ({
    method: 'GET',
    path,
    handler: (request) => {
      const view = control.view();
      const { jobid } = request.params;
      if (jobid !== view.jobId) throw new RestError(404, `Job ${jobid} not found`);
      return { status: 200, body: answer(view, request) };
    },
  });
  return [
    get('/api/v1/jobs/:jobid/series', (view, { query }) => series(view, minutesOf(query))),
    get('/api/v1/jobs/:jobid/diagnosis', diagnose),
  ];
}

function minutesOf(query: URLSearchParams): number {
  const text = query.get('minutes') ?? String(MAX_MINUTES);
  const minutes = Number(text);
  if (text !== '' && minutes > 0 && minutes <= MAX_MINUTES) return minutes;
  throw new RestError(400, `minutes must be a number above 0, at most ${MAX_MINUTES}`);
}

/** By column: what a chart wants, and a third of the bytes. */
function series(view: JobView, minutes: number): object {
  const samples = view.series.last(minutes);
  const column = (name: keyof Sample) => samples.map((sample) => sample[name]);
  return {
    stepSeconds: STEP_SECONDS,
    at: column('at'),
    series: Object.fromEntries(COLUMNS.map((name) => [name, column(name)])),
  };
}

const COLUMNS = [
  'eventsPerSecond',
  'matchedPerSecond',
  'deliveredPerSecond',
  'lagRecords',
  'latencyP50Seconds',
  'latencyP99Seconds',
  'busyRatio',
  'backPressuredRatio',
  'checkpointSeconds',
  'stateBytes',
  'restarts',
  'cacheHitRatio',
  'rssBytes',
] as const satisfies readonly (keyof Sample)[];
