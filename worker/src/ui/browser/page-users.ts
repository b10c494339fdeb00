/** One user: the state there is of them, and why the filter said what it said. */
import { useEffect, useState } from 'preact/hooks';
import { jobPath } from './api.ts';
import type { Decision, UserState } from './api-types.ts';
import { now } from './browser-env.ts';
import { Explain } from './explain.ts';
import { age, ago, bytes, exact, timestamp } from './format.ts';
import { html, type View } from './html.ts';
import { amount, card, empty, json, stat, table, when } from './parts.ts';
import { useClock, usePoll } from './poll.ts';
import { hrefOf } from './route.ts';
import { verdictBadge } from './verdict.ts';

const EVERY_MS = 3_000;

interface Props {
  jobId: string;
  user: string;
  /** An event to explain, as JSON: from the live tap. */
  event: string;
}

export function UsersPage({ jobId, user, event }: Props): View {
  const path = user === '' ? null : `api/v1/${jobPath(jobId)}/users/${encodeURIComponent(user)}`;
  const state = usePoll<UserState>(path, EVERY_MS);
  const at = useClock(now);
  const known = state.error === null ? state.data : null;
  const newest = known?.history.at(-1);
  return html`<div class="page">
    <h1>Users</h1>
    <${Search} jobId=${jobId} user=${user} />
    ${
      user === ''
        ? empty('Type the id of a user to see the state there is of them. Press / to get here.')
        : when(state, 'The state of this user', (found) => facts(found, at))
    }
    <${Explain}
      key=${user}
      jobId=${jobId}
      user=${user}
      event=${event}
      newest=${newest === undefined ? '' : JSON.stringify(newest, null, 2)}
    />
    ${
      known === null
        ? null
        : [card('Last decisions', decisions(known.decisions, at)), history(known.history)]
    }
  </div>`;
}

function Search({ jobId, user }: { jobId: string; user: string }): View {
  const [text, setText] = useState(user);
  useEffect(() => setText(user), [user]);
  const submit = (event: Event) => {
    event.preventDefault();
    location.hash = hrefOf('users', jobId, { user: text.trim() });
  };
  return html`<form class="row card" role="search" onSubmit=${submit}>
    <label class="grow">User id
      <input
        id="search"
        type="search"
        autocomplete="off"
        value=${text}
        onInput=${(event: Event) => setText((event.target as HTMLInputElement).value)}
      />
    </label>
    <button type="submit" class="primary">Show</button>
  </form>`;
}

function facts(state: UserState, at: number): View {
  const left = state.expiresAt === null ? null : state.expiresAt - at;
  const expiry = left === null ? 'never' : left < 0 ? 'is due' : `in ${age(left)}`;
  return html`${card(
    html`User <code>${state.userId}</code>`,
    html`<dl class="stats">
      ${stat('Size', amount(state.bytes, bytes, 'bytes'))}
      ${stat('Last event', ago(state.lastAccess, at))}
      ${stat('Expires', html`<span title=${timestamp(state.expiresAt)}>${expiry}</span>`)}
      ${stat('Events in history', exact(state.historyEvents))}
      ${stat('Waiting', exact(state.parked), 'for a profile')}
      ${stat('Outbox', exact(state.outbox))}
      ${stat('Where', `subtask ${state.subtask}`, `${state.taskManagerId}, ${state.from}`)}
      ${stat('Key group', state.keyGroup)}
    </dl>`,
  )}
  <div class="columns">
    ${card('Profile', json(state.user, 'Profile'))}
    ${card('Visit', json(state.visit, 'Visit'))}
  </div>`;
}

function history(events: readonly unknown[]): View {
  const latestFirst = events.toReversed();
  return card(
    'History, newest first',
    latestFirst.length === 0
      ? empty('No event is kept.')
      : html`<ol class="events" tabindex="0" aria-label="History">
          ${latestFirst.map((event) => html`<li><code>${JSON.stringify(event)}</code></li>`)}
        </ol>`,
  );
}

function decisions(all: readonly Decision[], at: number): View {
  if (all.length === 0) return empty('None since the task was started.');
  return html`<div class="tall">${table(
    'Last decisions of the filter',
    [
      {
        title: 'When',
        cell: (one) => html`<span class="number" title=${`${timestamp(one.at)} UTC`}>
          ${ago(one.at, at)}</span>`,
      },
      { title: 'Verdict', cell: ({ verdict }) => verdictBadge(verdict) },
      { title: 'Record', cell: (one) => html`<code>${recordOf(one)}</code>` },
      { title: 'Script', cell: (one) => html`<code>${one.scriptVersion.slice(0, 12)}</code>` },
      { title: 'Error', cell: ({ error }) => error ?? '' },
    ],
    all,
    (one) => `${one.at} ${recordOf(one)}`,
  )}</div>`;
}

function recordOf({ topic, partition, offset }: Decision): string {
  return [topic, partition, offset].filter((part) => part !== null).join(' / ');
}
