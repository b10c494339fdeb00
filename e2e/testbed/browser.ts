/** Debian's Chromium on the web UI of a running job, and what it complains about. */
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const EXECUTABLE = '/usr/bin/chromium';
/** Ten times what each step usually takes. */
const PATIENCE_MS = 30_000;
/** Pictures of each step go there, for people who look at them. */
const PICTURES = process.env['TRIGGERJOB_PICTURES'];

export async function openBrowser(): Promise<Browser> {
  const root = process.getuid?.() === 0;
  // A container has little /dev/shm, and no sandbox for root.
  const args = ['--disable-dev-shm-usage', ...(root ? ['--no-sandbox'] : [])];
  return chromium.launch({ executablePath: EXECUTABLE, args });
}

export interface Watched {
  page: Page;
  /** Console errors and warnings, exceptions of the page, since it was taken last. */
  takeComplaints(): string[];
}

export async function openPage(browser: Browser, width: number, height: number): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: 'light' });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  let complaints: string[] = [];
  page.on('console', (message) => {
    const { url } = message.location();
    if (message.type() === 'error' || message.type() === 'warning') {
      complaints.push(`${message.text()} (${url})`);
    }
  });
  page.on('pageerror', (error) => complaints.push(error.stack ?? error.message));
  return {
    page,
    takeComplaints() {
      const taken = complaints;
      complaints = [];
      return taken;
    },
  };
}

export async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES === undefined) return;
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

/** What a person who hears the page would miss: controls without a name, images without words. */
export async function namelessControls(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const nameOf = (element: Element): string => {
      const labelled = element.getAttribute('aria-labelledby');
      const by = labelled === null ? null : document.getElementById(labelled);
      const labels = (element as HTMLInputElement).labels ?? [];
      const label = [...labels].map(({ textContent }) => textContent).join(' ');
      const own = element.getAttribute('aria-label') ?? by?.textContent ?? label;
      return (own || element.textContent || '').trim();
    };
    const all = document.querySelectorAll(
      'a, button, input, select, textarea, dialog, nav, [role=img], [role=meter], [role=region]',
    );
    return [...all].filter((element) => nameOf(element) === '').map(({ outerHTML }) => outerHTML);
  });
}
