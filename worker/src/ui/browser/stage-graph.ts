/** The job as its four stages, from left to right, each coloured by how busy it is. */
import { bytes, compact, percent } from './format.ts';
import { html, type View } from './html.ts';
import { amount, bar, card, empty, type Tone, table } from './parts.ts';
import type { HotSubtask, Pressure, Stage } from './stage-model.ts';

const TONES: Readonly<Record<Pressure, Tone>> = {
  calm: 'ok',
  warm: 'warn',
  hot: 'bad',
  unknown: 'plain',
};
const WORDS: Readonly<Record<Pressure, string>> = {
  calm: 'calm',
  warm: 'busy',
  hot: 'at its limit',
  unknown: 'measuring',
};

/** Where a bottleneck that the diagnosis names is to be seen. */
const PLACES: Readonly<Record<string, string>> = {
  kafka: 'Source',
  source: 'Source',
  state: 'UserStateManager',
  'profile-api': 'UserStateManager',
  checkpoint: 'UserStateManager',
  filter: 'EventFilter',
  action: 'ActionExecutor',
};

export function stageGraph(stages: readonly Stage[], bottleneck: string | null): View {
  const slow = bottleneck === null ? null : PLACES[bottleneck];
  const [first] = stages;
  const chained = stages.every(
    ({ busy, backPressured }) => busy === first?.busy && backPressured === first.backPressured,
  );
  return html`<ol class="stages" aria-label="Stages of the job">
      ${stages.map((stage, index) => [
        index === 0 ? null : flow(stages[index - 1]?.outPerSecond ?? null, index === 1),
        stageBox(stage, stage.name === slow, chained),
      ])}
    </ol>
    ${chained && first !== undefined ? band(first) : null}`;
}

function flow(perSecond: number | null, keyed: boolean): View {
  return html`<li class="flow">
    <span>${amount(perSecond, compact, 'records/s')}<small>/s</small></span>
    <span class="arrow" aria-hidden="true"></span>
    <small>${keyed ? 'by user' : 'forward'}</small>
  </li>`;
}

function stageBox(stage: Stage, slow: boolean, chained: boolean): View {
  const running = stage.status === 'RUNNING';
  const word = running ? (slow ? 'bottleneck' : WORDS[stage.pressure]) : stage.status.toLowerCase();
  const tone = !running || slow ? 'warn' : TONES[stage.pressure];
  return html`<li class=${`stage ${tone}`}>
    <h3>${stage.name}</h3>
    <p class="rate">${amount(stage.inPerSecond, compact, 'records/s')}<small>/s in</small>
      <span class=${`badge ${tone}`}>${word}</span></p>
    ${
      chained
        ? null
        : html`<div class="gauges">
            ${meter('busy', stage.busy)} ${meter('back-pressured', stage.backPressured)}
          </div>`
    }
    <p class="queue">
      ${stage.queue.map(
        ({ label, value }) => html`<span>${amount(value, compact)} ${label}</span>`,
      )}
    </p>
  </li>`;
}

/** One thread of a slot runs all four stages: their time is one time. */
function band({ busy, backPressured, parallelism }: Stage): View {
  const threads = parallelism === 1 ? 'the slot thread runs' : `${parallelism} slot threads run`;
  return html`<div class="band">
    <span class="hint">${threads} all four stages</span>
    <div class="gauges">
      ${meter('busy', busy)} ${meter('back-pressured', backPressured)}
    </div>
  </div>`;
}

function meter(label: string, ratio: number | null): View {
  const tone = ratio === null ? 'plain' : ratio >= 0.8 ? 'bad' : ratio >= 0.5 ? 'warn' : 'ok';
  return html`<div class="gauge">
    <span>${label}</span>${bar(ratio, label, tone)}${amount(ratio, percent)}
  </div>`;
}

const MAX_SUBTASKS = 8;

export function subtaskTable(subtasks: readonly HotSubtask[]): View {
  const first = subtasks.slice(0, MAX_SUBTASKS);
  const rest = subtasks.length - first.length;
  const body =
    first.length === 0
      ? empty('No subtask has reported yet.')
      : table(
          'Hot subtasks',
          [
            { title: 'Subtask', cell: ({ subtask }) => html`<b>${subtask}</b>` },
            { title: 'TaskManager', cell: (row) => row.taskManagerId ?? '-' },
            { title: 'Busy', numeric: true, cell: ({ busy }) => amount(busy, percent) },
            {
              title: 'Back-pressured',
              numeric: true,
              cell: ({ backPressured }) => amount(backPressured, percent),
            },
            { title: 'CPU', numeric: true, cell: ({ cpu }) => amount(cpu, percent) },
            {
              title: 'Events/s',
              numeric: true,
              cell: (row) => amount(row.eventsPerSecond, compact, 'events/s'),
            },
            { title: 'Behind', numeric: true, cell: ({ behind }) => amount(behind, compact) },
            { title: 'Users', numeric: true, cell: ({ users }) => amount(users, compact) },
            {
              title: 'State',
              numeric: true,
              cell: ({ stateBytes }) => amount(stateBytes, bytes, 'bytes'),
            },
          ],
          first,
          ({ subtask }) => subtask,
        );
  const note = rest > 0 ? html`<p class="hint">and ${rest} less busy ones</p>` : null;
  return card('Hot subtasks', [body, note]);
}
