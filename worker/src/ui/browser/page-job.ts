/** One job: how it goes, and why it is slow if it is. */
import { useMemo } from 'preact/hooks';
import { jobPath } from './api.ts';
import type { Details, Diagnosis, HotKeys, JobDetail, Ledger, Series } from './api-types.ts';
import { now } from './browser-env.ts';
import { Chart } from './chart.ts';
import { age, ago, bytes, compact, duration, type Known, percent, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { amount, badge, card, empty, loading, stat, table, when } from './parts.ts';
import { type Polled, useClock, usePoll, useSpan } from './poll.ts';
import { hrefOf } from './route.ts';
import { chartsOf, latestOf } from './series-model.ts';
import type { Span } from './span.ts';
import { stageGraph, subtaskTable } from './stage-graph.ts';
import { hotSubtasks, stagesOf } from './stage-model.ts';

const LIVE_MS = 2_000;
const SLOW_MS = 5_000;
const MINUTES = 60;

export function JobPage({ jobId }: { jobId: string }): View {
  const job = usePoll<JobDetail>(jobPath(jobId), LIVE_MS);
  const details = usePoll<Details>('api/v1/details', LIVE_MS);
  const series = usePoll<Series>(`api/v1/${jobPath(jobId)}/series?minutes=${MINUTES}`, SLOW_MS);
  const diagnosis = usePoll<Diagnosis>(`api/v1/${jobPath(jobId)}/diagnosis`, SLOW_MS);
  const jobSpan = useSpan(job.data);
  const span = useSpan(details.data);
  if (job.data === null && job.error?.status === 404) return when(job, 'The job', () => null);
  return html`<div class="page">
    ${job.data === null ? html`<h1>Job</h1>` : heading(job.data, details.data)}
    ${when(diagnosis, 'The diagnosis', sentence)}
    ${jobSpan === null || span === null ? loading() : graph(jobSpan, span.now, diagnosis.data)}
    ${span === null ? null : figures(span.now, series.data, jobId)}
    <${Charts} series=${series} />
    <div class="columns">
      ${span === null ? null : subtaskTable(hotSubtasks(span))}
      <${HotKeysCard} jobId=${jobId} />
    </div>
    <${LedgerCard} jobId=${jobId} />
  </div>`;
}

function graph(job: Span<JobDetail>, details: Details, diagnosis: Diagnosis | null): View {
  const bottleneck = diagnosis?.healthy === false ? diagnosis.bottleneck : null;
  return html`<section class="card" aria-label="Stages">
    ${stageGraph(stagesOf(job, details), bottleneck)}
  </section>`;
}

function heading(job: JobDetail, details: Details | null): View {
  const since = job.timestamps[job.state] ?? 0;
  const refused = details?.filter.refused ?? null;
  return html`<div class="heading">
    <h1>${job.name}</h1>
    ${badge(job.state)}
    <span class="hint" title=${`${timestamp(since)} UTC`}>
      for ${age(job.now - since)}</span>
    ${
      refused === null
        ? null
        : html`<p class="notice warn">The new filter was refused: ${refused}</p>`
    }
  </div>`;
}

function sentence(diagnosis: Diagnosis): View {
  const { healthy, knob, evidence } = diagnosis;
  return html`<section class=${`diagnosis ${healthy ? 'ok' : 'warn'}`} aria-label="Diagnosis">
    <p><b>${healthy ? 'Healthy' : 'Why it is slow'}</b> ${diagnosis.sentence}</p>
    ${knob === '' ? null : html`<p class="hint">${knob}</p>`}
    ${
      evidence.length === 0
        ? null
        : html`<details><summary>Evidence</summary>
            <ul>${evidence.map((fact) => html`<li>${fact}</li>`)}</ul>
          </details>`
    }
  </section>`;
}

function figures(details: Details, series: Series | null, jobId: string): View {
  const checkpoint = details.lastCheckpoint;
  const parallelism = `${details.parallelism} of ${details.wantedParallelism}`;
  return html`<dl class="stats wide">
    ${stat('Events', amount(details.eventsPerSecond, compact, 'events/s'), '/s')}
    ${stat('Latency p50', seconds(latestOf(series, 'latencyP50Seconds')))}
    ${stat('Latency p99', seconds(latestOf(series, 'latencyP99Seconds')))}
    ${stat('Behind', amount(details.lag, compact, 'records'), 'records')}
    ${stat('Delivered', amount(details.delivered, compact))}
    ${stat('Dead letters', amount(details.deadLettered, compact))}
    ${stat('Users', amount(details.users, compact))}
    ${stat('Cache hits', amount(latestOf(series, 'cacheHitRatio'), percent))}
    ${stat('Parallelism', parallelism)}
    ${stat(
      'Checkpoint',
      html`<a href=${hrefOf('checkpoints', jobId)}>${checkpoint?.id ?? 'none yet'}</a>`,
      checkpoint === null ? null : html`<${Age} at=${checkpoint.at} />`,
    )}
    ${stat('State', amount(checkpoint?.stateBytes, bytes, 'bytes'))}
    ${stat('Restarts', html`<a href=${hrefOf('exceptions', jobId)}>${details.restarts}</a>`)}
  </dl>`;
}

function seconds(value: Known): View {
  const format = (known: Known) => duration(typeof known === 'number' ? known * 1000 : known);
  return amount(value, format, 's');
}

function Age({ at }: { at: number }): View {
  const clock = useClock(now);
  return html`<span class="number">${ago(at, clock)}</span>`;
}

function Charts({ series }: { series: Polled<Series> }): View {
  const charts = useMemo(() => (series.data === null ? [] : chartsOf(series.data)), [series.data]);
  return card(
    `The last ${MINUTES} minutes`,
    when(series, 'The history', () =>
      charts.length === 0
        ? empty('No figures yet: the first come within seconds.')
        : html`<div class="charts">
            ${charts.map((chart) => html`<${Chart} key=${chart.title} chart=${chart} />`)}
          </div>`,
    ),
  );
}

function HotKeysCard({ jobId }: { jobId: string }): View {
  const hot = usePoll<HotKeys>(`api/v1/${jobPath(jobId)}/hot-keys?by=events&top=8`, SLOW_MS);
  return card(
    'Hot users',
    when(hot, 'The list of hot users', ({ keys }) =>
      keys.length === 0
        ? empty('No user stands out yet.')
        : table(
            'Hot users',
            [
              {
                title: 'User',
                cell: ({ userId }) =>
                  html`<a href=${hrefOf('users', jobId, { user: userId })}>${userId}</a>`,
              },
              { title: 'Events', numeric: true, cell: ({ events }) => amount(events, compact) },
              { title: 'Share', numeric: true, cell: ({ share }) => amount(share, percent) },
              {
                title: 'State',
                numeric: true,
                cell: (key) => amount(key.stateBytes, bytes, 'bytes'),
              },
              { title: 'Subtask', numeric: true, cell: ({ subtask }) => subtask },
            ],
            keys,
            ({ userId }) => userId,
          ),
    ),
  );
}

const LEDGER_PARTS = [
  ['noMatch', 'no match'],
  ['delivered', 'delivered'],
  ['deadLettered', 'dead letters'],
  ['parked', 'wait for a profile'],
  ['outbox', 'in the outbox'],
] as const;

function LedgerCard({ jobId }: { jobId: string }): View {
  const ledger = usePoll<Ledger>(`api/v1/${jobPath(jobId)}/ledger`, SLOW_MS);
  return card(
    'Every event accounted for',
    when(ledger, 'The ledger', ({ balanced, now: sums }) => {
      if (sums === null) return empty('Not all tasks have told their part yet.');
      const verdict = balanced ? badge('balanced', 'ok') : badge(`off by ${sums.imbalance}`, 'bad');
      return html`<p class="ledger">
        <span>${amount(sums.accepted, compact)} accepted</span><b>=</b>
        ${LEDGER_PARTS.map(
          ([part, label], index) => html`${index === 0 ? null : html`<b>+</b>`}
            <span>${amount(sums[part], compact)} ${label}</span>`,
        )}
        ${verdict}
      </p>`;
    }),
  );
}
