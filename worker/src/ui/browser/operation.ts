/** Taking a checkpoint or a savepoint: the buttons, how far it is, and where it lies. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, get, jobPath, post } from './api.ts';
import type { Operation } from './api-types.ts';
import { freshId, later } from './browser-env.ts';
import { bytes } from './format.ts';
import { html, type View } from './html.ts';
import { type Asked, type OperationState, operationState } from './operation-model.ts';
import { bar, Copy, card, fault } from './parts.ts';

const POLL_MS = 500;

export function TriggerCard({ jobId }: { jobId: string }): View {
  const [state, setState] = useState<OperationState | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [directory, setDirectory] = useState('');
  const stop = useRef(() => {});
  useEffect(() => () => stop.current(), []);
  const start = (asked: Asked) => {
    stop.current();
    setError(null);
    setState({ kind: 'running', asked, ratio: null, copied: null });
    stop.current = follow(jobId, asked, directory.trim(), setState, (failed) => {
      setState(null);
      setError(failed);
    });
  };
  const busy = state?.kind === 'running';
  const submit = (event: Event) => {
    event.preventDefault();
    start('savepoint');
  };
  return card(
    'Take one now',
    html`<form class="row" onSubmit=${submit}>
        <button type="button" disabled=${busy} onClick=${() => start('checkpoint')}>
          Checkpoint</button>
        <label class="grow">Savepoint directory
          <input
            value=${directory}
            placeholder="as spec.savepoints.directory says"
            onInput=${(event: Event) => setDirectory((event.target as HTMLInputElement).value)}
          />
        </label>
        <button type="submit" class="primary" disabled=${busy}>Savepoint</button>
      </form>
      <div aria-live="polite">
        ${state === null ? null : progressOf(state)}
        ${error === null ? null : fault(error, 'The request')}
      </div>`,
  );
}

function progressOf(state: OperationState): View {
  switch (state.kind) {
    case 'running':
      return html`<div class="notice">
        <p>The ${state.asked} is being
          taken${state.copied === null ? '' : `, ${bytes(state.copied)} copied`}.</p>
        ${
          state.ratio === null
            ? html`<div class="bar moving"><div></div></div>`
            : bar(state.ratio, 'copied')
        }
      </div>`;
    case 'failed':
      return html`<div class="notice bad" role="alert">
        <p><b>The ${state.asked} failed.</b> ${state.reason}</p>
      </div>`;
    case 'done':
      return html`<div class="notice ok">
        <p>The ${state.asked} is complete${
          state.checkpointId === null ? '' : `: number ${state.checkpointId}`
        }.</p>
        ${state.location === null ? null : html`<p><${Copy} text=${state.location} /></p>`}
      </div>`;
  }
}

/**
 * With an id of its own, so that a lost answer starts no second one. Ends when the answer is there,
 * or by the function that it answers.
 */
function follow(
  jobId: string,
  asked: Asked,
  directory: string,
  tell: (state: OperationState) => void,
  fail: (error: ApiError) => void,
): () => void {
  const triggerId = freshId();
  const path = jobPath(jobId, `/${asked}s`);
  const into = asked === 'savepoint' && directory !== '' ? { 'target-directory': directory } : {};
  let cancel = () => {};
  let stopped = false;
  const again = (step: () => Promise<void>) => {
    if (!stopped) cancel = later(POLL_MS, () => void attempt(step));
  };
  /** A JobManager that is away comes back, or another one does. */
  const attempt = async (step: () => Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 0 || error.status >= 502) again(step);
      else if (!stopped) fail(error);
    }
  };
  const poll = async (): Promise<void> => {
    const state = operationState(asked, await get<Operation>(`${path}/${triggerId}`));
    if (stopped) return;
    tell(state);
    if (state.kind === 'running') again(poll);
  };
  void attempt(async () => {
    await post(path, { ...into, triggerId });
    await poll();
  });
  return () => {
    stopped = true;
    cancel();
  };
}
