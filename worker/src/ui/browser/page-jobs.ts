/** Which jobs there are: one, and what it is doing. */
import type { Details, JobsOverview, Overview } from './api-types.ts';
import { now } from './browser-env.ts';
import { age, ago, bytes, compact, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { amount, badge, card, empty, stat, table, when } from './parts.ts';
import { useClock, usePoll } from './poll.ts';
import { hrefOf } from './route.ts';

const EVERY_MS = 2_000;

export function JobsPage(): View {
  const jobs = usePoll<JobsOverview>('jobs/overview', EVERY_MS);
  const overview = usePoll<Overview>('overview', EVERY_MS);
  const details = usePoll<Details>('api/v1/details', EVERY_MS);
  const at = useClock(now);
  return html`<div class="page">
    <h1>Jobs</h1>
    ${card(
      'Cluster',
      when(overview, 'The overview', (cluster) => clusterFacts(cluster, details.data)),
    )}
    ${card(
      'All jobs',
      when(jobs, 'The list of jobs', (list) => jobTable(list, details.data, at)),
    )}
  </div>`;
}

function clusterFacts(cluster: Overview, details: Details | null): View {
  const used = cluster['slots-total'] - cluster['slots-available'];
  return html`<dl class="stats">
    ${stat('TaskManagers', html`<a href="#/taskmanagers">${cluster.taskmanagers}</a>`)}
    ${stat('Slots', `${used} of ${cluster['slots-total']}`, 'in use')}
    ${stat('Events', amount(details?.eventsPerSecond, compact, 'events/s'), '/s')}
    ${stat('Users in state', amount(details?.users, compact))}
    ${stat('State', amount(details?.lastCheckpoint?.stateBytes, bytes, 'bytes'))}
  </dl>`;
}

function jobTable({ jobs }: JobsOverview, details: Details | null, at: number): View {
  if (jobs.length === 0) return empty('No job yet. Start one: triggerjob run job.yaml');
  return table(
    'All jobs',
    [
      {
        title: 'Name',
        cell: (job) => html`<a class="strong" href=${hrefOf('job', job.jid)}>${job.name}</a>`,
      },
      { title: 'State', cell: (job) => badge(job.state) },
      {
        title: 'Started',
        cell: (job) =>
          html`<span title=${`${timestamp(job['start-time'])} UTC`}>
            ${ago(job['start-time'], at)}</span>`,
      },
      {
        title: 'Duration',
        numeric: true,
        cell: (job) => html`<span class="number">${age(job.duration)}</span>`,
      },
      {
        title: 'Tasks',
        numeric: true,
        cell: ({ tasks }) =>
          html`<span class="number">${tasks['running'] ?? 0} of ${tasks['total'] ?? 0}</span>`,
      },
      {
        title: 'Behind',
        numeric: true,
        cell: () => amount(details?.lag, compact, 'records'),
      },
      { title: 'Restarts', numeric: true, cell: () => amount(details?.restarts, compact) },
    ],
    jobs,
    ({ jid }) => jid,
  );
}
