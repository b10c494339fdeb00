/** `kubectl triggerjob`: what is done to a job by hand, and why it is as it is. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { parseDuration } from '../../worker/src/plan/duration.ts';
import { Kubectl, type Place } from './kubectl.ts';
import {
  type EventObject,
  type JobObject,
  type PodObject,
  savepointWords,
  statusLines,
  whyLines,
} from './words.ts';

const POLL_MS = 500;
const SHOWN_LOG_LINES = '100';

function print(lines: string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}

const resource = (name: string): string => `triggerjob.triggerjob.io/${name}`;
const selector = (name: string, component?: string): string =>
  `app.kubernetes.io/name=triggerjob,app.kubernetes.io/instance=${name}` +
  (component === undefined ? '' : `,app.kubernetes.io/component=${component}`);

/** Looks until `done`, or rejects after the time; says nothing meanwhile. */
async function until(
  kubectl: Kubectl,
  name: string,
  timeout: string,
  done: (job: JobObject) => boolean,
): Promise<JobObject> {
  const end = Date.now() + (parseDuration(timeout) ?? 0);
  for (;;) {
    const job = await kubectl.json<JobObject>('get', resource(name));
    if (done(job)) return job;
    const { state = 'Pending', summary = '' } = job.status ?? {};
    if (Date.now() >= end) throw new Error(`not within ${timeout}: it is ${state}. ${summary}`);
    await sleep(POLL_MS);
  }
}

async function takeSavepoint(kubectl: Kubectl, name: string, timeout: string): Promise<void> {
  const token = new Date().toISOString();
  const annotation = `triggerjob.io/savepoint=${token}`;
  await kubectl.run('annotate', '--overwrite', resource(name), annotation);
  const { status } = await until(kubectl, name, timeout, ({ status: seen }) => {
    const { requestToken, phase } = seen?.savepoint ?? {};
    return requestToken === token && (phase === 'Completed' || phase === 'Failed');
  });
  const savepoint = status?.savepoint ?? {};
  if (savepoint.phase === 'Failed') throw new Error(savepointWords(savepoint));
  print([savepoint.location ?? '']);
}

async function setSuspended(
  kubectl: Kubectl,
  name: string,
  suspend: boolean,
  timeout: string,
): Promise<void> {
  const patch = JSON.stringify({ spec: { suspend } });
  await kubectl.run('patch', resource(name), '--type=merge', `--patch=${patch}`);
  const { status } = await until(kubectl, name, timeout, ({ metadata, status: seen }) => {
    if ((seen?.observedGeneration ?? 0) < (metadata.generation ?? 0)) return false;
    const ready = seen?.conditions?.some(
      ({ type, status: is }) => type === 'Ready' && is === 'True',
    );
    return suspend ? seen?.state === 'Suspended' : ready === true;
  });
  const savepoint = status?.lastSavepoint;
  print([`${name} is ${status?.state}${suspend && savepoint ? `, state in ${savepoint}` : ''}`]);
}

async function why(kubectl: Kubectl, name: string): Promise<void> {
  const job = await kubectl.json<JobObject>('get', resource(name));
  const about = `involvedObject.kind=TriggerJob,involvedObject.name=${name}`;
  const { items: pods } = await kubectl.json<{ items: PodObject[] }>(
    'get',
    'pods',
    `--selector=${selector(name)}`,
  );
  const { items: events } = await kubectl.json<{ items: EventObject[] }>(
    'get',
    'events',
    `--field-selector=${about}`,
  );
  print(whyLines(job, pods, events));
}

function program(): Command {
  const commands = new Command('kubectl triggerjob').description('TriggerJobs by hand.');
  const add = (name: string, description: string): Command =>
    commands
      .command(name)
      .description(description)
      .option('-n, --namespace <name>', "default: that of the kubeconfig's context")
      .option('--context <name>', 'of the kubeconfig')
      .option('--kubeconfig <file>');
  const waits = ['--timeout <duration>', 'longest wait', '5m'] as const;
  add('status <name>', 'state, figures and conditions').action(async (name: string, place: Place) =>
    print(statusLines(await new Kubectl(place).json('get', resource(name)), Date.now())),
  );
  add('savepoint <name>', 'takes one and prints where it lies')
    .option(...waits)
    .action((name: string, options: Place & { timeout: string }) =>
      takeSavepoint(new Kubectl(options), name, options.timeout),
    );
  add('suspend <name>', 'stops it with its state kept, and ends its pods')
    .option(...waits)
    .action((name: string, options: Place & { timeout: string }) =>
      setSuspended(new Kubectl(options), name, true, options.timeout),
    );
  add('resume <name>', 'starts it again from that state')
    .option(...waits)
    .action((name: string, options: Place & { timeout: string }) =>
      setSuspended(new Kubectl(options), name, false, options.timeout),
    );
  add('logs <name>', 'of all of its pods')
    .option('-f, --follow', 'goes on')
    .option('--component <name>', 'jobmanager or taskmanager; default: both')
    .action(async (name: string, options: Place & { follow?: true; component?: string }) => {
      process.exitCode = await new Kubectl(options).show(
        'logs',
        `--selector=${selector(name, options.component)}`,
        '--prefix',
        `--tail=${SHOWN_LOG_LINES}`,
        '--max-log-requests=100',
        ...(options.follow ? ['--follow'] : []),
      );
    });
  add('why <name>', 'why it is not as it should be').action((name: string, place: Place) =>
    why(new Kubectl(place), name),
  );
  return commands;
}

try {
  await program().parseAsync();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
