/**
 * A server that only this machine reaches and that knows no token trusts whoever reaches it, and a
 * browser on this machine does so for any page. Such a page comes under another name (one whose
 * address has become 127.0.0.1), or says from which site it comes.
 */
import type { IncomingHttpHeaders } from 'node:http';

const OWN_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

export function isLoopback(address: string): boolean {
  return /^(127\.\d+\.\d+\.\d+|::1|localhost)$/.test(address);
}

/** Why a request is of another site's page; null = it is not, as far as can be told. */
export function foreignRequest({ host = '', origin }: IncomingHttpHeaders): string | null {
  const remedy =
    'behind a proxy or for other sites start it with --rest-token-file FILE ' +
    '(openssl rand -hex 32 makes one)';
  if (!OWN_HOST.test(host)) {
    return (
      'This JobManager listens on loopback and knows no token, so it must be asked as localhost, ' +
      `127.0.0.1 or [::1], not as ${host || 'nobody (no Host header)'}; ${remedy}`
    );
  }
  if (origin === undefined || hostOf(origin) === hostOf(`http://${host}`)) return null;
  return (
    'This JobManager listens on loopback and knows no token, so it answers no page of another ' +
    `site: Origin is ${origin}, Host is ${host}; ${remedy}`
  );
}

/** An image or a link of another site's page: it has no Origin. Browsers say this of loopback. */
export function crossSite({ 'sec-fetch-site': site = 'none' }: IncomingHttpHeaders): string | null {
  return site === 'none' || site === 'same-origin'
    ? null
    : `a page of another site may not ask for this (Sec-Fetch-Site: ${site})`;
}

/** null: of no host, as `null` is. */
function hostOf(url: string): string | null {
  return URL.parse(url)?.host ?? null;
}
