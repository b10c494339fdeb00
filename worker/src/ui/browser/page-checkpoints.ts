/** Checkpoints and savepoints: what there was, why one failed, and the buttons to take one. */
import { useState } from 'preact/hooks';
import { jobPath } from './api.ts';
import type { Checkpoint, CheckpointConfig, CheckpointSubtasks, Checkpoints } from './api-types.ts';
import { now } from './browser-env.ts';
import { ago, bytes, clock, duration, exact, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { TriggerCard } from './operation.ts';
import { amount, badge, Copy, card, empty, stat, table, when } from './parts.ts';
import { useClock, usePoll } from './poll.ts';

const EVERY_MS = 2_000;
const CONFIG_EVERY_MS = 60_000;

export function CheckpointsPage({ jobId }: { jobId: string }): View {
  const path = jobPath(jobId, '/checkpoints');
  const checkpoints = usePoll<Checkpoints>(path, EVERY_MS);
  const config = usePoll<CheckpointConfig>(`${path}/config`, CONFIG_EVERY_MS);
  const at = useClock(now);
  const [open, setOpen] = useState<number | null>(null);
  return html`<div class="page">
    <h1>Checkpoints and savepoints</h1>
    <${TriggerCard} jobId=${jobId} />
    ${card(
      'Overview',
      when(checkpoints, 'The checkpoints', (all) => overview(all, at)),
    )}
    ${card(
      'History',
      when(checkpoints, 'The history', ({ history }) =>
        history.length === 0
          ? empty('No checkpoint yet: the first comes after one interval.')
          : historyTable(history, jobId, at, open, (id) => setOpen(open === id ? null : id)),
      ),
    )}
    ${card('Configuration', when(config, 'The configuration', settings))}
  </div>`;
}

function overview({ counts, latest, summary }: Checkpoints, at: number): View {
  const took = summary.end_to_end_duration;
  const { restored, failed, savepoint } = latest;
  return html`<dl class="stats">
      ${stat('Completed', exact(counts.completed))}
      ${stat('Failed', exact(counts.failed))}
      ${stat('In progress', exact(counts.in_progress))}
      ${stat('Took', amount(took.p50, duration, 'ms'), 'median')}
      ${stat('Took', amount(took.p99, duration, 'ms'), 'p99')}
      ${stat('Written', amount(summary.checkpointed_size.avg, bytes, 'bytes'), 'on average')}
      ${stat(
        'Restored',
        restored === null ? 'never' : restored.id,
        restored && ago(restored.restore_timestamp, at),
      )}
    </dl>
    ${
      failed === null
        ? null
        : html`<p class="notice bad"><b>Checkpoint ${failed.id} failed
            ${ago(failed.trigger_timestamp + failed.end_to_end_duration, at)}.</b>
            ${failed.failure_message ?? 'No reason was told.'}</p>`
    }
    ${
      savepoint?.external_path === undefined
        ? null
        : html`<p>Newest savepoint <${Copy} text=${savepoint.external_path} /></p>`
    }`;
}

function historyTable(
  history: readonly Checkpoint[],
  jobId: string,
  at: number,
  open: number | null,
  toggle: (id: number) => void,
): View {
  return table(
    'History of checkpoints',
    [
      {
        title: 'Id',
        cell: ({ id }) => html`<button
          type="button"
          class="quiet strong"
          aria-expanded=${open === id}
          onClick=${() => toggle(id)}
        >${id}</button>`,
      },
      { title: 'Kind', cell: (one) => kindOf(one) },
      { title: 'State', cell: ({ status }) => badge(status) },
      {
        title: 'Triggered',
        cell: (one) => html`<span class="number" title=${`${timestamp(one.trigger_timestamp)} UTC`}>
          ${clock(one.trigger_timestamp)} <small>${ago(one.trigger_timestamp, at)}</small></span>`,
      },
      {
        title: 'Took',
        numeric: true,
        cell: (one) => amount(one.end_to_end_duration, duration, 'ms'),
      },
      {
        title: 'Written',
        numeric: true,
        cell: (one) => amount(one.checkpointed_size, bytes, 'bytes'),
      },
      { title: 'State size', numeric: true, cell: (one) => amount(one.state_size, bytes, 'bytes') },
      {
        title: 'Acknowledged',
        numeric: true,
        cell: (one) => html`<span class="number">${one.num_acknowledged_subtasks} of
          ${' '}${one.num_subtasks}</span>`,
      },
    ],
    history,
    ({ id }) => id,
    (one) => moreOf(one, jobId, open === one.id),
  );
}

function kindOf({ checkpoint_type: type }: Checkpoint): string {
  if (type === 'SYNC_SAVEPOINT') return 'stop with savepoint';
  return type.toLowerCase();
}

/** A failure's cause is never hidden behind a click. */
function moreOf(one: Checkpoint, jobId: string, open: boolean): View {
  const failed = one.status === 'FAILED';
  if (!open && !failed) return null;
  const cause = one.failure_message ?? 'No reason was told.';
  return html`${failed ? html`<p class="cause">${cause}</p>` : null}
    ${one.external_path && open ? html`<p><${Copy} text=${one.external_path} /></p>` : null}
    ${open ? html`<${Subtasks} jobId=${jobId} checkpoint=${one} />` : null}`;
}

function Subtasks({ jobId, checkpoint }: { jobId: string; checkpoint: Checkpoint }): View {
  const details = jobPath(jobId, `/checkpoints/details/${checkpoint.id}`);
  const whole = usePoll<Checkpoint>(details, EVERY_MS);
  const vertex = Object.keys(whole.data?.tasks ?? {})[0];
  const path = vertex === undefined ? null : `${details}/subtasks/${vertex}`;
  const subtasks = usePoll<CheckpointSubtasks>(path, EVERY_MS);
  if (whole.error !== null && whole.data === null) return when(whole, 'The details', () => null);
  return when(subtasks, 'The part of each subtask', ({ subtasks: all }) =>
    table(
      `Subtasks of checkpoint ${checkpoint.id}`,
      [
        { title: 'Subtask', cell: ({ index }) => index },
        { title: 'State', cell: ({ status }) => badge(status.toUpperCase()) },
        { title: 'Acknowledged', cell: (one) => clock(one.ack_timestamp) },
        {
          title: 'Took',
          numeric: true,
          cell: (one) => amount(one.end_to_end_duration, duration, 'ms'),
        },
        {
          title: 'Paused',
          numeric: true,
          cell: (one) => amount(one.checkpoint?.sync, duration, 'ms'),
        },
        {
          title: 'Aligned',
          numeric: true,
          cell: (one) => amount(one.alignment?.duration, duration, 'ms'),
        },
        {
          title: 'State size',
          numeric: true,
          cell: (one) => amount(one.state_size, bytes, 'bytes'),
        },
      ],
      all,
      ({ index }) => index,
    ),
  );
}

function settings(config: CheckpointConfig): View {
  return html`<dl class="facts">
    <dt>Interval</dt><dd>${duration(config.interval)}</dd>
    <dt>Timeout</dt><dd>${duration(config.timeout)}</dd>
    <dt>Least pause between two</dt><dd>${duration(config.min_pause)}</dd>
    <dt>Failures tolerated in a row</dt><dd>${config.tolerable_failed_checkpoints}</dd>
    <dt>Storage</dt><dd><${Copy} text=${config.checkpoint_storage} /></dd>
  </dl>`;
}
