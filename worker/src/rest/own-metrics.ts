/**
 * What a JobManager's process says of itself on /metrics, leading or not: prom-client's process and
 * Node.js figures. The only file of the worker that knows prom-client, which was renamed upstream.
 */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';

/** One per process: it holds counters and watches the event loop. Made when first asked for. */
let own: { registry: Registry; leading: Gauge } | null = null;

export function ownMetrics(leading: boolean): Promise<string> {
  own ??= made();
  own.leading.set(leading ? 1 : 0);
  return own.registry.metrics();
}

function made(): NonNullable<typeof own> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const name = 'triggerjob_jobmanager_leading';
  const help = '1 for the JobManager that leads, or shows how the job ended';
  return { registry, leading: new Gauge({ name, help, registers: [registry] }) };
}
