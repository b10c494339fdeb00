/**
 * The operator's metrics, by the names of controller-runtime and client-go so that their dashboards
 * and alerts fit. The only file that knows prom-client, which was renamed upstream.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestMetrics } from './kube/http-call.ts';
import type { ReflectorMetrics } from './kube/reflector.ts';
import type { QueueMetrics } from './kube/work-queue.ts';

const CONTROLLER = 'triggerjob';
const REQUEST_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];
const QUEUE_BUCKETS = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000];
const RECONCILE_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** What is looked at when somebody asks. */
export interface MetricsView {
  queue(): { depth: number; active: number; sumSeconds: number; longestSeconds: number };
  leading(): boolean;
  /** Per kind: objects kept, and seconds since its watch said anything. */
  caches(): Iterable<{ kind: string; objects: number; stalenessSeconds: number }>;
  /** `status.state` of each TriggerJob. */
  states(): Iterable<string>;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly request: RequestMetrics;
  readonly queue: QueueMetrics;
  readonly reflector: ReflectorMetrics;
  readonly #dropped: Counter;
  readonly #leaseName: string;
  #refresh: () => void = () => {};

  constructor(concurrency: number, leaseName: string) {
    collectDefaultMetrics({ register: this.#registry });
    this.request = this.#requests();
    this.queue = this.#queue();
    this.reflector = this.#reflectors();
    this.#dropped = this.#counter(
      'triggerjob_operator_events_dropped_total',
      'Events not written',
      ['reason'],
    );
    this.#gauge('controller_runtime_max_concurrent_reconciles', 'Reconciles at once', [
      'controller',
    ]).set({ controller: CONTROLLER }, concurrency);
    this.#leaseName = leaseName;
  }

  eventDropped(reason: string): void {
    this.#dropped.inc({ reason });
  }

  /** Gauges of what is, read at each scrape. */
  show(view: MetricsView): void {
    const name = { name: CONTROLLER };
    const controller = { controller: CONTROLLER };
    const depth = this.#gauge('workqueue_depth', 'Jobs that wait', ['name']);
    const sum = this.#gauge('workqueue_unfinished_work_seconds', 'Of work under way', ['name']);
    const longest = this.#gauge(
      'workqueue_longest_running_processor_seconds',
      'Of the longest work under way',
      ['name'],
    );
    const active = this.#gauge('controller_runtime_active_workers', 'Reconciles under way', [
      'controller',
    ]);
    const leading = this.#gauge('leader_election_master_status', '1 while it leads', ['name']);
    const objects = this.#gauge('triggerjob_operator_cached_objects', 'In memory', ['kind']);
    const staleness = this.#gauge(
      'triggerjob_operator_watch_staleness_seconds',
      'Since the watch of this kind said anything; up to 75 when all is well and quiet',
      ['kind'],
    );
    const jobs = this.#gauge('triggerjob_operator_jobs', 'TriggerJobs by state', ['state']);
    this.#refresh = () => {
      jobs.reset();
      for (const state of view.states()) jobs.inc({ state });
      const queue = view.queue();
      depth.set(name, queue.depth);
      sum.set(name, queue.sumSeconds);
      longest.set(name, queue.longestSeconds);
      active.set(controller, queue.active);
      leading.set({ name: this.#leaseName }, view.leading() ? 1 : 0);
      for (const cache of view.caches()) {
        objects.set({ kind: cache.kind }, cache.objects);
        staleness.set({ kind: cache.kind }, cache.stalenessSeconds);
      }
    };
  }

  async text(): Promise<{ contentType: string; text: string }> {
    this.#refresh();
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  #requests(): RequestMetrics {
    const total = this.#counter('rest_client_requests_total', 'Requests to the API server', [
      'method',
      'code',
      'host',
    ]);
    const duration = this.#histogram(
      'rest_client_request_duration_seconds',
      'Until the answer begins',
      ['verb', 'host'],
      REQUEST_BUCKETS,
    );
    return {
      request: ({ method, code, host, seconds }) => {
        total.inc({ method, code, host });
        duration.observe({ verb: method, host }, seconds);
      },
    };
  }

  #queue(): QueueMetrics {
    const name = { name: CONTROLLER };
    const controller = { controller: CONTROLLER };
    const adds = this.#counter('workqueue_adds_total', 'Jobs put into the queue', ['name']);
    const retries = this.#counter('workqueue_retries_total', 'Jobs that come again', ['name']);
    const waited = this.#histogram(
      'workqueue_queue_duration_seconds',
      'How long a job waited',
      ['name'],
      QUEUE_BUCKETS,
    );
    const worked = this.#histogram(
      'workqueue_work_duration_seconds',
      'How long the work on a job took',
      ['name'],
      QUEUE_BUCKETS,
    );
    const reconciles = this.#counter('controller_runtime_reconcile_total', 'Reconciles', [
      'controller',
      'result',
    ]);
    const errors = this.#counter('controller_runtime_reconcile_errors_total', 'Failed ones', [
      'controller',
    ]);
    const time = this.#histogram(
      'controller_runtime_reconcile_time_seconds',
      'How long a reconcile took',
      ['controller'],
      RECONCILE_BUCKETS,
    );
    for (const result of ['success', 'requeue_after', 'error']) {
      reconciles.inc({ ...controller, result }, 0);
    }
    errors.inc(controller, 0);
    return {
      added: () => adds.inc(name),
      retried: () => retries.inc(name),
      taken: (seconds) => waited.observe(name, seconds),
      finished: (result, seconds) => {
        worked.observe(name, seconds);
        reconciles.inc({ ...controller, result });
        time.observe(controller, seconds);
        if (result === 'error') errors.inc(controller);
      },
    };
  }

  #reflectors(): ReflectorMetrics {
    const lists = this.#counter('reflector_lists_total', 'Whole lists read', ['kind']);
    const watches = this.#counter('reflector_watches_total', 'Watches begun', ['kind']);
    const failures = this.#counter('reflector_failures_total', 'Lists and watches that failed', [
      'kind',
      'reason',
    ]);
    return {
      listed: (kind) => lists.inc({ kind }),
      watchStarted: (kind) => watches.inc({ kind }),
      watchFailed: (kind, reason) => failures.inc({ kind, reason }),
    };
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #gauge(name: string, help: string, labelNames: string[]): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }

  #histogram(name: string, help: string, labelNames: string[], buckets: number[]): Histogram {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.#registry] });
  }
}
