/** Events as they pass, by stage and user. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, ask, token } from './api.ts';
import { later } from './browser-env.ts';
import { EventStreamParser, type StreamEvent } from './event-stream.ts';
import { clock, exact, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { empty, fault, json } from './parts.ts';
import { hrefOf } from './route.ts';
import { onShortcut } from './shortcuts.ts';
import { useStore } from './store.ts';
import { FIRST_STAGE, NOTHING_SEEN, STAGES, type TapRow, tapPath, tapState } from './tap-model.ts';
import { verdictBadge } from './verdict.ts';

const DRAW_EVERY_MS = 250;
const RETRY_MS = 1_000;

interface Props {
  jobId: string;
  stage: string;
  user: string;
}

export function TapPage({ jobId, stage, user }: Props): View {
  const [paused, setPaused] = useState(false);
  const { state, error, clear } = useTap(tapPath(jobId, stage, user), paused);
  // Who asks for others wants to see them.
  useEffect(() => setPaused(false), [stage, user]);
  useEffect(() => onShortcut('p', () => setPaused((before) => !before)), []);
  const go = (query: Record<string, string>) => {
    location.hash = hrefOf('tap', jobId, { stage, user, ...query });
  };
  const passedOver =
    state.skipped === 0 ? '' : `, ${exact(state.skipped)} passed over: too many to show`;
  return html`<div class="page">
    <h1>Live tap</h1>
    <div class="row card">
      <label>Stage
        <select
          value=${stage === '' ? FIRST_STAGE : stage}
          onChange=${(event: Event) => go({ stage: chosen(event) })}
        >
          ${STAGES.map((name) => html`<option value=${name}>${name}</option>`)}
        </select>
      </label>
      <label class="grow">User id
        <input
          id="search"
          type="search"
          autocomplete="off"
          placeholder="all users"
          value=${user}
          onChange=${(event: Event) => go({ user: chosen(event).trim() })}
        />
      </label>
      <button type="button" class="primary" onClick=${() => setPaused(!paused)}>
        ${paused ? 'Go on' : 'Pause'}</button>
      <button type="button" onClick=${clear}>Clear</button>
    </div>
    ${error === null ? null : fault(error, 'The live tap')}
    <p class="hint" role="status">
      <span class=${`dot ${paused ? 'plain' : 'ok'}`}></span>
      ${paused ? 'Paused. ' : 'Listening. '}
      ${exact(state.seen)} seen${passedOver}
    </p>
    ${state.rows.length === 0 && error === null ? empty('Nothing has passed yet.') : null}
    <ol class="tap">
      ${state.rows.map((row) => html`<${Row} key=${row.id} row=${row} jobId=${jobId} />`)}
    </ol>
  </div>`;
}

const chosen = ({ target }: Event) => (target as HTMLInputElement | HTMLSelectElement).value;

function Row({ row, jobId }: { row: TapRow; jobId: string }): View {
  const [open, setOpen] = useState(false);
  const { at, stage, userId, subtask, event, verdict, reason } = row.record;
  const query = { user: userId ?? '', event: JSON.stringify(event, null, 2) };
  return html`<li>
    <button type="button" class="quiet" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      <time class="number" title=${`${timestamp(at)} UTC`}>${clock(at)}</time>
      <span class=${`stage-name ${stage}`}>${stage}</span>
      <b>${userId ?? 'no user'}</b>
      ${verdict === null || verdict === undefined ? null : verdictBadge(verdict)}
      <code>${reason ?? JSON.stringify(event)}</code>
    </button>
    ${
      open
        ? html`<div class="opened">
            <p class="hint">${placeOf(row)}, subtask ${subtask}${
              userId === null
                ? null
                : html` <a href=${hrefOf('users', jobId, query)}>Explain</a>
                    ${' '}<a href=${hrefOf('tap', jobId, { stage, user: userId })}>Only them</a>`
            }</p>
            ${json(event, 'Event')}
          </div>`
        : null
    }
  </li>`;
}

function placeOf({ record: { topic, partition, offset } }: TapRow): string {
  const known = [topic, partition, offset].filter((part) => part !== null && part !== undefined);
  return known.length === 0 ? 'no record' : known.join(' / ');
}

function useTap(path: string, paused: boolean) {
  const bearer = useStore(token);
  const [state, setState] = useState(NOTHING_SEEN);
  const [error, setError] = useState<ApiError | null>(null);
  const shown = useRef(path);
  useEffect(() => {
    if (shown.current !== path) setState(NOTHING_SEEN);
    shown.current = path;
    setError(null);
    if (paused) return undefined;
    return listen(
      path,
      (events) => setState((before) => tapState(before, events)),
      (failed) => setError(failed),
    );
  }, [path, paused, bearer]);
  return { state, error, clear: () => setState(NOTHING_SEEN) };
}

/** Tells what came in one go a few times a second: a browser can't draw each event of thousands. */
function listen(
  path: string,
  tell: (events: StreamEvent[]) => void,
  fail: (error: ApiError | null) => void,
): () => void {
  const aborting = new AbortController();
  const { signal } = aborting;
  let waiting: StreamEvent[] = [];
  let cancelDraw = () => {};
  let cancelRetry = () => {};
  const draw = () => {
    if (waiting.length > 0) tell(waiting);
    waiting = [];
    cancelDraw = later(DRAW_EVERY_MS, draw);
  };
  draw();
  const connect = async (): Promise<void> => {
    try {
      await read(
        path,
        signal,
        (events) => waiting.push(...events),
        () => fail(null),
      );
    } catch (error) {
      if (signal.aborted) return;
      const known = error instanceof ApiError ? error : new ApiError(0, 'the stream broke off');
      fail(known);
      if (known.status >= 400 && known.status < 500) return;
    }
    if (!signal.aborted) cancelRetry = later(RETRY_MS, () => void connect());
  };
  void connect();
  return () => {
    aborting.abort();
    cancelDraw();
    cancelRetry();
  };
}

async function read(
  path: string,
  signal: AbortSignal,
  tell: (events: StreamEvent[]) => void,
  begun: () => void,
): Promise<void> {
  const response = await ask(path, { signal, headers: { accept: 'text/event-stream' } });
  begun();
  const parser = new EventStreamParser();
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done = true, value = '' } = (await reader?.read()) ?? {};
    if (done) return;
    tell(parser.push(value));
  }
}
