/** Deep links: the part of the address behind `#`. Pure. */

export const PAGES = [
  { id: 'jobs', title: 'Jobs', key: '1' },
  { id: 'job', title: 'Job', key: '2' },
  { id: 'checkpoints', title: 'Checkpoints', key: '3' },
  { id: 'taskmanagers', title: 'TaskManagers', key: '4' },
  { id: 'users', title: 'Users', key: '5' },
  { id: 'tap', title: 'Live tap', key: '6' },
  { id: 'exceptions', title: 'Exceptions', key: '7' },
] as const;
export type PageId = (typeof PAGES)[number]['id'];

export interface Route {
  page: PageId;
  /** null = the job that there is. */
  jobId: string | null;
  /** What is filled in on the page: a user, a stage. */
  query: Readonly<Record<string, string>>;
}

/** An address that leads nowhere is the list of jobs. */
export function parseRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#?\/?/, '').split('?', 2);
  const query = Object.fromEntries(new URLSearchParams(search));
  const [first, id, second, ...rest] = path.split('/').map(decoded);
  if (first === 'taskmanagers' && id === undefined) return { page: first, jobId: null, query };
  if (first !== 'jobs' || rest.length > 0) return { page: 'jobs', jobId: null, query };
  if (id === undefined || id === '') return { page: 'jobs', jobId: null, query };
  const page = PAGES.find((known) => known.id === second && !isWithoutJob(known.id))?.id;
  if (page === undefined) return { page: 'job', jobId: id, query };
  return { page, jobId: id, query };
}

export function hrefOf(
  page: PageId,
  jobId: string | null,
  query: Readonly<Record<string, string>> = {},
): string {
  const filled = Object.entries(query).filter(([, value]) => value !== '');
  const search = filled.length === 0 ? '' : `?${new URLSearchParams(filled)}`;
  if (isWithoutJob(page) || jobId === null) {
    return `#/${page === 'taskmanagers' ? page : 'jobs'}${search}`;
  }
  const tail = page === 'job' ? '' : `/${page}`;
  return `#/jobs/${encodeURIComponent(jobId)}${tail}${search}`;
}

function isWithoutJob(page: PageId): boolean {
  return page === 'jobs' || page === 'taskmanagers';
}

/** As it is where it was not encoded well: a broken link must not break the page. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
