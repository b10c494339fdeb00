/** What went wrong: the first cause on top, repeats folded. */

import { jobPath } from './api.ts';
import type { Exceptions } from './api-types.ts';
import { now } from './browser-env.ts';
import { type Incident, timelineOf } from './exception-model.ts';
import { ago, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { badge, empty, when } from './parts.ts';
import { useClock, usePoll } from './poll.ts';

const EVERY_MS = 3_000;

export function ExceptionsPage({ jobId }: { jobId: string }): View {
  const exceptions = usePoll<Exceptions>(jobPath(jobId, '/exceptions'), EVERY_MS);
  const at = useClock(now);
  return html`<div class="page">
    <h1>Exceptions</h1>
    ${when(exceptions, 'The list of exceptions', (all) => timeline(all, at))}
  </div>`;
}

function timeline(exceptions: Exceptions, at: number): View {
  const { firstCause, incidents, truncated } = timelineOf(exceptions);
  if (incidents.length === 0 && firstCause === null) {
    return empty('Nothing has gone wrong since this JobManager leads.');
  }
  return html`${
    firstCause === null
      ? null
      : html`<section class="card pinned" aria-label="First cause">
          <header>
            <h2>First cause</h2>${badge(firstCause.code, 'bad')} ${moment(firstCause.at, at)}
          </header>
          ${messageBox(firstCause)}
        </section>`
  }
  <ol class="timeline" aria-label="Exceptions, newest first">
    ${incidents.map(
      (incident) => html`<li key=${`${incident.code} ${incident.firstAt}`}>
      ${incidentView(incident, at)}
    </li>`,
    )}
  </ol>
  ${truncated ? html`<p class="hint">Older ones are not kept.</p>` : null}`;
}

function incidentView(incident: Incident, at: number): View {
  const { code, count, firstAt, lastAt, where } = incident;
  return html`<header>
      ${badge(code, 'bad')}
      ${count > 1 ? html`<b class="number">${count} times</b>` : null}
      ${moment(lastAt, at)}
      ${count > 1 ? html`<span class="hint">first ${ago(firstAt, at)}</span>` : null}
    </header>
    ${messageBox(incident)}
    ${where.length === 0 ? null : html`<p class="hint">at ${where.join(', ')}</p>`}`;
}

function messageBox({ code, message }: { code: string; message: string }): View {
  return html`<pre class="message" tabindex="0" role="region" aria-label=${code}>${message}</pre>`;
}

function moment(time: number, at: number): View {
  return html`<time class="hint number" title=${`${timestamp(time)} UTC`}>${ago(time, at)}</time>`;
}
