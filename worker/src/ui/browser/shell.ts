/** What is around every page: navigation, state of the connection, theme, token, keys. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { connection, keepToken, token, tokenAsked } from './api.ts';
import type { JobsOverview } from './api-types.ts';
import { now } from './browser-env.ts';
import { age } from './format.ts';
import { html, type View } from './html.ts';
import { CheckpointsPage } from './page-checkpoints.ts';
import { ExceptionsPage } from './page-exceptions.ts';
import { JobPage } from './page-job.ts';
import { JobsPage } from './page-jobs.ts';
import { TapPage } from './page-tap.ts';
import { TaskManagersPage } from './page-taskmanagers.ts';
import { UsersPage } from './page-users.ts';
import { badge, empty, loading } from './parts.ts';
import { useClock, usePoll } from './poll.ts';
import { hrefOf, PAGES, parseRoute, type Route } from './route.ts';
import { onShortcut } from './shortcuts.ts';
import { useStore } from './store.ts';
import { theme, toggleTheme } from './theme.ts';

const JOBS_EVERY_MS = 5_000;

export function Shell(): View {
  const route = useRoute();
  const jobs = usePoll<JobsOverview>('jobs/overview', JOBS_EVERY_MS);
  const [first] = jobs.data?.jobs ?? [];
  const jobId = route.jobId ?? first?.jid ?? null;
  const [helped, setHelped] = useState(false);
  const here = jobs.data?.jobs.find(({ jid }) => jid === jobId);
  const jobsKnown = jobs.data !== null || jobs.error !== null;
  useEffect(() => shortcuts(jobId, () => setHelped(true)), [jobId]);
  useEffect(() => {
    const title = PAGES.find(({ id }) => id === route.page)?.title;
    document.title = [title, here?.name, 'TriggerJob'].filter(Boolean).join(' · ');
  }, [route.page, here?.name]);
  return html`<a class="skip" href="#main" onClick=${focusMain}>Skip to content</a>
    <nav aria-label="Pages">
      <a class="brand" href=${hrefOf('jobs', null)}>
        <img src="ui/icon.svg" alt="" width="24" height="24" />TriggerJob</a>
      <ul>${PAGES.map((page) => {
        const away = jobId === null && hrefOf(page.id, null) !== hrefOf(page.id, 'x');
        return away
          ? null
          : html`<li><a
              href=${hrefOf(page.id, jobId)}
              aria-current=${page.id === route.page ? 'page' : null}
            >${page.title}<kbd aria-hidden="true">${page.key}</kbd></a></li>`;
      })}</ul>
    </nav>
    <header class="top">
      ${here === undefined ? null : html`<b>${here.name}</b>${badge(here.state)}`}
      <${ConnectionState} />
      <div class="tools">
        <button type="button" class="quiet" onClick=${() => tokenAsked.set(true)}>Token</button>
        <${ThemeButton} />
        <button
          type="button"
          class="quiet"
          aria-label="Keyboard shortcuts"
          onClick=${() => setHelped(true)}
        >?</button>
      </div>
    </header>
    <main id="main" tabindex="-1">${pageOf(route, jobId, jobsKnown)}</main>
    <${TokenBox} />
    <${Help} open=${helped} close=${() => setHelped(false)} />`;
}

function pageOf({ page, query }: Route, jobId: string | null, jobsKnown: boolean): View {
  if (page === 'jobs') return html`<${JobsPage} />`;
  if (page === 'taskmanagers') return html`<${TaskManagersPage} />`;
  if (jobId === null) return jobsKnown ? empty('There is no job.') : loading();
  const { user = '', stage = '', event = '' } = query;
  switch (page) {
    case 'job':
      return html`<${JobPage} key=${jobId} jobId=${jobId} />`;
    case 'checkpoints':
      return html`<${CheckpointsPage} key=${jobId} jobId=${jobId} />`;
    case 'users':
      return html`<${UsersPage} key=${jobId} jobId=${jobId} user=${user} event=${event} />`;
    case 'tap':
      return html`<${TapPage} key=${jobId} jobId=${jobId} stage=${stage} user=${user} />`;
    case 'exceptions':
      return html`<${ExceptionsPage} key=${jobId} jobId=${jobId} />`;
  }
}

function useRoute(): Route {
  const [route, setRoute] = useState(parseRoute(location.hash));
  useEffect(() => {
    const onChange = () => {
      setRoute(parseRoute(location.hash));
      scrollTo(0, 0);
    };
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, []);
  return route;
}

/** The address belongs to the router: a link to #main would lead to another page. */
function focusMain(event: Event): void {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

function shortcuts(jobId: string | null, help: () => void): () => void {
  const undo = PAGES.map(({ id, key }) =>
    onShortcut(key, () => {
      location.hash = hrefOf(id, jobId);
    }),
  );
  undo.push(onShortcut('t', toggleTheme), onShortcut('?', help));
  undo.push(
    onShortcut('/', () => {
      const search = document.getElementById('search');
      if (search === null) location.hash = hrefOf('users', jobId);
      else search.focus();
    }),
  );
  return () => {
    for (const one of undo) one();
  };
}

function ConnectionState(): View {
  const { lastSeen, fault } = useStore(connection);
  const at = useClock(now);
  if (fault === null) {
    const text = lastSeen === 0 ? 'connecting' : 'live';
    return html`<span class="connection" role="status"><i class="dot ok"></i>${text}</span>`;
  }
  const seen = lastSeen === 0 ? 'not seen yet' : `last seen ${age(at - lastSeen)} ago`;
  return html`<span class="connection lost" role="status" title=${fault}>
    <i class="dot bad"></i>reconnecting, ${seen}</span>`;
}

function ThemeButton(): View {
  const shade = useStore(theme);
  const next = shade === 'dark' ? 'Light' : 'Dark';
  return html`<button type="button" class="quiet" onClick=${toggleTheme}>${next}</button>`;
}

/** Escape closes a dialog by itself; `close` follows. */
function useDialog(open: boolean) {
  const dialog = useRef<HTMLDialogElement | null>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return dialog;
}

function TokenBox(): View {
  const open = useStore(tokenAsked);
  const kept = useStore(token);
  const [text, setText] = useState('');
  const dialog = useDialog(open);
  const close = () => tokenAsked.set(false);
  const submit = (event: Event) => {
    event.preventDefault();
    keepToken(text.trim());
    setText('');
    close();
  };
  return html`<dialog ref=${dialog} aria-labelledby="token-title" onClose=${close}>
    <h2 id="token-title">Token</h2>
    <p class="hint">Who changes something or looks at users' data needs a token of this job
      (--rest-token-file). It is kept in this tab until the tab is closed.
      ${kept === '' ? null : ' One is in use.'}</p>
    <form onSubmit=${submit}>
      <label>Token
        <input
          type="password"
          autocomplete="off"
          value=${text}
          onInput=${(event: Event) => setText((event.target as HTMLInputElement).value)}
        />
      </label>
      <p class="row">
        <button type="submit" class="primary">
          ${text === '' && kept !== '' ? 'Forget it' : 'Use it'}</button>
        <button type="button" onClick=${close}>Cancel</button>
      </p>
    </form>
  </dialog>`;
}

const KEYS = [
  ...PAGES.map(({ key, title }) => [key, title] as const),
  ['/', 'Search for a user'],
  ['p', 'Pause the live tap'],
  ['t', 'Dark or light'],
  ['?', 'This list'],
  ['Esc', 'Close'],
] as const;

function Help({ open, close }: { open: boolean; close: () => void }): View {
  const dialog = useDialog(open);
  return html`<dialog ref=${dialog} aria-labelledby="help-title" onClose=${close}>
    <h2 id="help-title">Keyboard shortcuts</h2>
    <dl class="keys-help">${KEYS.map(
      ([key, text]) => html`<dt><kbd>${key}</kbd></dt><dd>${text}</dd>`,
    )}</dl>
    <p class="row"><button type="button" class="primary" onClick=${close}>Close</button></p>
  </dialog>`;
}
