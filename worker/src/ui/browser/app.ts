/** The web UI begins here. */
import { render } from 'preact';
import { html } from './html.ts';
import { Shell } from './shell.ts';
import { listenToKeys } from './shortcuts.ts';
import { followTheme } from './theme.ts';

followTheme();
listenToKeys();
const place = document.getElementById('app');
if (place !== null) render(html`<${Shell} />`, place);
