/** The pieces that all pages are made of. */
import { useState } from 'preact/hooks';
import { type ApiError, isUnknownPath, tokenAsked } from './api.ts';
import { later } from './browser-env.ts';
import { exact, type Known } from './format.ts';
import { html, type View } from './html.ts';

export type Tone = 'ok' | 'warn' | 'bad' | 'accent' | 'plain';

const STATE_TONES: Readonly<Record<string, Tone>> = {
  RUNNING: 'ok',
  FINISHED: 'ok',
  COMPLETED: 'ok',
  FAILED: 'bad',
  FAILING: 'bad',
  RESTARTING: 'warn',
  INITIALIZING: 'warn',
  CREATED: 'warn',
  SCHEDULED: 'warn',
  DEPLOYING: 'warn',
  IN_PROGRESS: 'accent',
};

const shown = (word: string) => word.toLowerCase().replaceAll('_', ' ');

export function badge(text: string, tone: Tone = STATE_TONES[text] ?? 'plain'): View {
  return html`<span class=${`badge ${tone}`}>${shown(text)}</span>`;
}

/** A number for people, and the exact one for who points at it. */
export function amount(value: Known, format: (value: Known) => string, unit = ''): View {
  return html`<span class="number" title=${exact(value, unit)}>${format(value)}</span>`;
}

export function stat(label: string, value: View, note: View = null): View {
  return html`<div class="stat">
    <dt>${label}</dt>
    <dd>${value}${note === null ? null : html`<small>${note}</small>`}</dd>
  </div>`;
}

export function card(title: View, body: View, aside: View = null): View {
  return html`<section class="card">
    <header><h2>${title}</h2>${aside}</header>
    ${body}
  </section>`;
}

export function bar(ratio: number | null, label: string, tone: Tone = 'accent'): View {
  const percent = Math.round((ratio ?? 0) * 100);
  return html`<div
    class=${`bar ${tone}`}
    role="meter"
    aria-label=${label}
    aria-valuemin="0"
    aria-valuemax="100"
    aria-valuenow=${percent}
  ><div style=${{ width: `${percent}%` }}></div></div>`;
}

export interface Column<Row> {
  title: string;
  /** Numbers stand to the right. */
  numeric?: boolean;
  cell: (row: Row) => View;
}

export function table<Row>(
  caption: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  key: (row: Row) => string | number,
  details: (row: Row) => View = () => null,
): View {
  const side = ({ numeric }: Column<Row>) => (numeric ? 'right' : '');
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class="unseen">${caption}</caption>
      <thead><tr>
        ${columns.map((column) => html`<th scope="col" class=${side(column)}>${column.title}</th>`)}
      </tr></thead>
      <tbody>${rows.map((row) => {
        const more = details(row);
        return [
          html`<tr key=${key(row)}>
            ${columns.map((column) => html`<td class=${side(column)}>${column.cell(row)}</td>`)}
          </tr>`,
          more === null
            ? null
            : html`<tr key=${`${key(row)}+`} class="more">
                <td colspan=${columns.length}>${more}</td>
              </tr>`,
        ];
      })}</tbody>
    </table>
  </div>`;
}

export function empty(text: View): View {
  return html`<p class="empty">${text}</p>`;
}

export function loading(): View {
  return html`<div class="loading" role="status"><span class="unseen">Loading</span>
    <i></i><i></i><i></i></div>`;
}

/** What is wrong with one part of a page, and what to do about it. */
export function fault(error: ApiError, what: string): View {
  if (isUnknownPath(error)) return empty(`${what} is not available in this version.`);
  if (error.status === 404) return empty(error.message);
  if (error.status === 401) {
    return html`<div class="notice warn" role="alert">
      <p>${what} needs a token of this job.</p>
      <button type="button" onClick=${() => tokenAsked.set(true)}>Enter the token</button>
    </div>`;
  }
  const tone = error.status === 403 ? 'warn' : 'bad';
  return html`<div class=${`notice ${tone}`} role="alert"><p>${what}: ${error.message}</p></div>`;
}

/** Data if there is some, else why there is none. */
export function when<T>(
  { data, error }: { data: T | null; error: ApiError | null },
  what: string,
  view: (data: T) => View,
): View {
  if (data !== null && (error === null || error.status === 0 || error.status >= 500)) {
    return view(data);
  }
  return error === null ? loading() : fault(error, what);
}

const COPIED_MS = 1_500;

export function Copy({ text }: { text: string }): View {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(text);
    setCopied(true);
    later(COPIED_MS, () => setCopied(false));
  };
  return html`<span class="copy">
    <code>${text}</code>
    <button type="button" class="quiet" aria-label=${`Copy ${text}`} onClick=${() => void copy()}>
      <span aria-live="polite">${copied ? 'Copied' : 'Copy'}</span>
    </button>
  </span>`;
}

/** navigator.clipboard exists only on https and localhost. */
async function copyText(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

/** JSON to read, folded where it is long. */
export function json(value: unknown, label: string): View {
  return html`<pre class="json" tabindex="0" role="region" aria-label=${label}>${JSON.stringify(
    value,
    null,
    2,
  )}</pre>`;
}
