/**
 * Logs of JobManager and TaskManagers: the newest lines of each, one file per process, under
 * Flink's paths. They may tell of users, so they are guarded like that.
 */
import type { JobControl } from '../jobmanager/job-view.ts';
import { messageOf } from '../runtime/errors.ts';
import type { LogText } from '../runtime/log-tail.ts';
import { RestError } from './rest-error.ts';
import type { Handler, Route, RouteAnswer, RouteRequest } from './router.ts';
import { taskManagerOf } from './task-manager-json.ts';

type Source = (request: RouteRequest) => Promise<LogText>;

/** `own`: of the process that answers; null = it keeps none. */
export function logRoutes(control: JobControl, own: (() => Promise<LogText>) | null): Route[] {
  const ofTaskManager: Source = async ({ params }) => {
    const { id } = taskManagerOf(control.view(), params);
    return await control.taskManagerLog(id).catch((error: unknown) => {
      throw new RestError(503, messageOf(error));
    });
  };
  const ofJobManager: Source = () => {
    if (own === null) throw new RestError(404, 'This process keeps no log.');
    return own();
  };
  return [...routesUnder('/jobmanager', ofJobManager), ...routesUnder(TASK_MANAGER, ofTaskManager)];
}

const TASK_MANAGER = '/taskmanagers/:taskmanagerid';

function routesUnder(base: string, source: Source): Route[] {
  const route = (path: string, handler: Handler): Route => {
    return { method: 'GET', path: `${base}${path}`, handler, needsToken: true };
  };
  const whole: Handler = async (request) => asText(await source(request));
  return [
    route('/logs', async (request) => {
      const { name, modifiedAt, text } = await source(request);
      const size = Buffer.byteLength(text);
      return { status: 200, body: { logs: [{ name, size, mtime: modifiedAt }] } };
    }),
    route('/logs/:filename', async (request) => {
      const log = await source(request);
      const asked = request.params['filename'];
      if (asked === log.name) return asText(log);
      throw new RestError(404, `There is no log ${asked}; ${log.name} is.`);
    }),
    // One stream holds both: what is printed, and what is logged.
    route('/log', whole),
    route('/stdout', whole),
  ];
}

function asText({ text }: LogText): RouteAnswer {
  return { status: 200, body: text, contentType: 'text/plain; charset=utf-8' };
}
