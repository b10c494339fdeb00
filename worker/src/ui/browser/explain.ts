/** The filter run on an event that somebody pasted, clause by clause. */
import { useState } from 'preact/hooks';
import { ApiError, jobPath, post } from './api.ts';
import type { Explanation } from './api-types.ts';
import { parseObject, traceLines, valueText } from './explain-model.ts';
import { html, type View } from './html.ts';
import { card, empty, fault } from './parts.ts';
import { verdictBadge } from './verdict.ts';

interface Props {
  jobId: string;
  user: string;
  /** What to begin with; else the user's newest event. */
  event: string;
  newest: string;
}

type Outcome =
  | { kind: 'none' }
  | { kind: 'asking' }
  | { kind: 'told'; explanation: Explanation }
  | { kind: 'refused'; error: ApiError }
  | { kind: 'mistake'; text: string };

export function Explain({ jobId, user, event, newest }: Props): View {
  const [typed, setTyped] = useState<string | null>(event === '' ? null : event);
  const [script, setScript] = useState('');
  const [outcome, setOutcome] = useState<Outcome>({ kind: 'none' });
  const text = typed ?? newest;
  const submit = async (submitted: Event): Promise<void> => {
    submitted.preventDefault();
    const parsed = parseObject(text, 'The event');
    if ('fault' in parsed) return setOutcome({ kind: 'mistake', text: parsed.fault });
    setOutcome({ kind: 'asking' });
    const question = {
      event: parsed.value,
      ...(user !== '' && { userId: user }),
      ...(script.trim() !== '' && { script }),
    };
    try {
      const path = `api/v1/${jobPath(jobId)}/explain`;
      setOutcome({ kind: 'told', explanation: await post<Explanation>(path, question) });
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(0, String(error));
      setOutcome({ kind: 'refused', error: known });
    }
  };
  const value = (of: Event) => (of.target as HTMLTextAreaElement).value;
  return card(
    'Explain',
    html`<form class="explain" onSubmit=${(submitted: Event) => void submit(submitted)}>
        <label>Event
          <textarea
            id="event"
            rows="8"
            spellcheck=${false}
            value=${text}
            placeholder='{"user_id": "ann", "event_name": "click"}'
            onInput=${(input: Event) => setTyped(value(input))}
          ></textarea>
        </label>
        <details>
          <summary>Another script than the one that runs</summary>
          <label>Script
            <textarea
              rows="6"
              spellcheck=${false}
              value=${script}
              onInput=${(input: Event) => setScript(value(input))}
            ></textarea>
          </label>
        </details>
        <p class="row">
          <button type="submit" class="primary" disabled=${outcome.kind === 'asking'}>
            Explain</button>
          <span class="hint">${
            user === ''
              ? 'Without a user the event meets an empty state.'
              : `On the state of ${user} as it is now; nothing is changed or sent.`
          }</span>
        </p>
      </form>
      <div aria-live="polite">${answer(outcome)}</div>`,
  );
}

function answer(outcome: Outcome): View {
  switch (outcome.kind) {
    case 'none':
      return null;
    case 'asking':
      return html`<p class="hint">Asking...</p>`;
    case 'mistake':
      return html`<p class="notice bad" role="alert">${outcome.text}</p>`;
    case 'refused':
      return fault(outcome.error, 'Explain');
    case 'told':
      return explained(outcome.explanation);
  }
}

function explained(explanation: Explanation): View {
  const { verdict, deciding, error } = explanation;
  const lines = traceLines(explanation);
  return html`<section class="explanation" aria-label="Explanation">
    <p>${verdictBadge(verdict)}
      ${
        deciding === null
          ? null
          : html` <span>decided by <code class="deciding">${deciding.text}</code>
              ${' '}in line ${deciding.line}, which is
              ${' '}<code>${valueText(deciding.value)}</code></span>`
      }</p>
    ${error === null ? null : html`<p class="notice bad">${error}</p>`}
    ${
      lines.length === 0
        ? empty('There is no trace.')
        : html`<ol class="trace" aria-label="Clauses and their values">
            ${lines.map(
              (line) => html`<li class=${line.deciding ? 'deciding' : ''}>
                <code style=${{ paddingInlineStart: `${line.depth * 20}px` }}>${line.text}</code>
                <b class=${line.tone}>${line.value}</b>
              </li>`,
            )}
          </ol>`
    }
  </section>`;
}
