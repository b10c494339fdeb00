/** What a request for a job must find, with Flink's status codes. */
import type { JobView } from '../jobmanager/job-view.ts';
import { RestError } from './rest-error.ts';
import type { RouteRequest } from './router.ts';

export function checkJob(view: JobView, jobId: string): void {
  if (jobId !== view.jobId) throw new RestError(404, `Job ${jobId} not found`);
}

/** Flink's operator depends on 404 for a missing job and 409 for one that has ended. */
export function checkRunning(view: JobView, request: RouteRequest): void {
  checkJob(view, request.params['jobid'] ?? '');
  if (view.terminal) throw new RestError(409, `Job ${view.jobId} is already ${view.status}`);
}
