/** Dark or light: what the system says until somebody chooses, and then that. */
import { Store } from './store.ts';

const KEY = 'triggerjob.theme';
const dark = matchMedia('(prefers-color-scheme: dark)');

const chosen = localStorage.getItem(KEY);
export const theme = new Store<'dark' | 'light'>(
  chosen === 'dark' || chosen === 'light' ? chosen : ofSystem(),
);

export function followTheme(): void {
  const show = () => {
    document.documentElement.dataset['theme'] = theme.value;
  };
  theme.subscribe(show);
  show();
  dark.addEventListener('change', () => {
    if (localStorage.getItem(KEY) === null) theme.set(ofSystem());
  });
}

export function toggleTheme(): void {
  const next = theme.value === 'dark' ? 'light' : 'dark';
  localStorage.setItem(KEY, next);
  theme.set(next);
}

function ofSystem(): 'dark' | 'light' {
  return dark.matches ? 'dark' : 'light';
}
