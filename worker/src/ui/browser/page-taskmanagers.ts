/** The processes that do the work: memory, slots, threads, disk. */
import type { Details, TaskManagerDetail, TaskManagers } from './api-types.ts';
import { now } from './browser-env.ts';
import { ago, bytes, compact, duration, type Known, percent, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { amount, bar, empty, stat, type Tone, table, when } from './parts.ts';
import { useClock, usePoll, useSpan } from './poll.ts';
import type { Span } from './span.ts';
import { cpuOf, threadsOf, type Worker, workersOf } from './worker-model.ts';

const EVERY_MS = 2_000;
/** Beats come every second or so; longer than this is worth a colour. */
const LATE_BEAT_MS = 10_000;

export function TaskManagersPage(): View {
  const list = usePoll<TaskManagers>('taskmanagers', EVERY_MS);
  const details = usePoll<Details>('api/v1/details', EVERY_MS);
  const at = useClock(now);
  const span = useSpan(details.data);
  return html`<div class="page">
    <h1>TaskManagers</h1>
    ${when(list, 'The list of TaskManagers', (all) =>
      all.taskmanagers.length === 0
        ? empty('No TaskManager is registered. The job waits for one.')
        : workersOf(all, details.data).map((worker) => workerCard(worker, span, at)),
    )}
  </div>`;
}

function workerCard(worker: Worker, span: Span<Details> | null, at: number): View {
  const { id, path, lastBeat, slots, freeSlots } = worker;
  const late = at - lastBeat > LATE_BEAT_MS;
  return html`<section class="card" key=${id} aria-label=${`TaskManager ${id}`}>
    <header>
      <h2>${id}</h2>
      <span class="hint">${path}</span>
      <span class=${`hint number ${late ? 'late' : ''}`} title=${`${timestamp(lastBeat)} UTC`}>
        heartbeat ${ago(lastBeat, at)}</span>
    </header>
    ${slotBoxes(slots, freeSlots)} ${meters(worker)}
    <dl class="stats">${processFacts(worker, span)}</dl>
    ${threadTable(id, span)}
  </section>`;
}

function meters({ id, process, limitBytes }: Worker): View {
  const system = process?.system ?? null;
  const used = system === null ? null : system.diskBytes - system.diskFreeBytes;
  return html`<div class="gauges">
    ${gauge('Memory', id, process?.rssBytes, process?.memoryLimitBytes ?? limitBytes)}
    ${system === null ? null : gauge('Disk', id, used, system.diskBytes)}
  </div>`;
}

function gauge(what: string, id: string, used: Known, limit: number): View {
  const ratio = typeof used === 'number' && limit > 0 ? used / limit : null;
  return html`<div class="gauge">
    <span>${what}</span>${bar(ratio, `${what} of ${id}`, toneOf(ratio))}
    <span>${amount(used, bytes, 'bytes')} of ${amount(limit, bytes, 'bytes')}</span>
  </div>`;
}

function toneOf(ratio: number | null): Tone {
  if (ratio === null) return 'plain';
  return ratio > 0.95 ? 'bad' : ratio > 0.85 ? 'warn' : 'ok';
}

function slotBoxes(slots: number, free: number): View {
  const used = slots - free;
  const label = `${used} of ${slots} slots in use`;
  return html`<div class="slots">
    ${Array.from({ length: slots }, (_, slot) => html`<i class=${slot < used ? 'used' : ''}></i>`)}
    <span>${label}</span>
  </div>`;
}

function processFacts({ process }: Worker, span: Span<Details> | null): View {
  const cpu = span === null ? null : cpuOf(process, span);
  const size = (label: string, value: Known, note: View = null) =>
    value === undefined || value === null ? null : stat(label, amount(value, bytes, 'bytes'), note);
  const shuffle: TaskManagerDetail['shuffle'] = process?.shuffle ?? null;
  const lag = process?.eventLoopLagP99Ms;
  return [
    stat('CPU', amount(cpu, percent), 'of one core'),
    size('Resident', process?.rssBytes),
    size('Heap', process?.heapBytes, 'of the main thread'),
    lag === undefined ? null : stat('Event loop', amount(lag, duration, 'ms'), 'late, p99'),
    size('Disk free', process?.system?.diskFreeBytes),
    size('Disk written', process?.system?.writtenBytes),
    size('Sent', shuffle?.bytesSent, 'to TaskManagers'),
  ];
}

function threadTable(id: string, span: Span<Details> | null): View {
  const threads = span === null ? [] : threadsOf(id, span);
  if (threads.length === 0) return empty('No slot is in use.');
  return table(
    `Slot threads of ${id}`,
    [
      { title: 'Slot thread', cell: ({ metrics }) => metrics.slot },
      { title: 'Subtask', cell: ({ metrics }) => metrics.subtask },
      { title: 'CPU', numeric: true, cell: ({ cpu }) => amount(cpu, percent) },
      { title: 'Busy', numeric: true, cell: ({ busy }) => amount(busy, percent) },
      { title: 'Users', numeric: true, cell: ({ metrics }) => amount(metrics.users, compact) },
      {
        title: 'State',
        numeric: true,
        cell: ({ metrics }) => amount(metrics.stateBytes, bytes, 'bytes'),
      },
      {
        title: 'Cache',
        numeric: true,
        cell: ({ metrics }) => amount(metrics.cacheBytes, bytes, 'bytes'),
      },
      {
        title: 'Longest pause',
        numeric: true,
        cell: ({ metrics }) => amount(metrics.pauseMaxMs, duration, 'ms'),
      },
    ],
    threads,
    ({ metrics }) => metrics.subtask,
  );
}
