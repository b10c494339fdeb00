/**
 * How a TaskManager is, for its pod's probes: /healthz (its main thread answers), /readyz (a
 * JobManager has registered it) and a few gauges on /metrics; all else about it is among the
 * JobManager's metrics.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { TriggerJobError } from '../runtime/errors.ts';

const MAX_CONNECTIONS = 32;
const REQUEST_TIMEOUT_MS = 5_000;

export interface TaskManagerHealth {
  registered: boolean;
  slots: number;
  /** Slots that run a task. */
  tasks: number;
}

export interface HealthServer {
  readonly port: number;
  close(): void;
}

/** On every address; 0 = any free port. Rejects with HEALTH_LISTEN. */
export async function serveHealth(
  port: number,
  health: () => TaskManagerHealth,
): Promise<HealthServer> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const { status, text } = answer(request.url ?? '/', health());
    response.writeHead(status, {
      'content-type': 'text/plain; version=0.0.4; charset=utf-8',
      'content-length': Buffer.byteLength(text),
    });
    response.end(text);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new TriggerJobError('HEALTH_LISTEN', `--health-port ${port} can't be used`, { cause }),
      );
    });
    server.listen(port, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function answer(url: string, health: TaskManagerHealth): { status: number; text: string } {
  switch (url.split('?')[0]) {
    case '/healthz':
      return { status: 200, text: 'ok\n' };
    case '/readyz':
      return health.registered
        ? { status: 200, text: 'registered with the leader\n' }
        : { status: 503, text: 'no JobManager has registered it yet\n' };
    case '/metrics':
      return { status: 200, text: metrics(health) };
    default:
      return { status: 404, text: 'here are /healthz, /readyz and /metrics\n' };
  }
}

function metrics({ registered, slots, tasks }: TaskManagerHealth): string {
  const gauges = [
    ['triggerjob_taskmanager_registered', 'Whether a JobManager has registered it', +registered],
    ['triggerjob_taskmanager_slots', 'Slots it offers', slots],
    ['triggerjob_taskmanager_tasks', 'Slots that run a task', tasks],
    ['process_resident_memory_bytes', 'Resident memory', process.memoryUsage.rss()],
  ] as const;
  return gauges
    .map(
      ([name, help, value]) => `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} ${value}\n`,
    )
    .join('');
}
