/** The commands `triggerjob savepoint ...` and `triggerjob checkpoints ...` with their options. */
import { type Command, Option } from 'commander';
import { realEnv } from '../runtime/env.ts';
import {
  type Outcome,
  type OutputFormat,
  outputOption,
  restOption,
  tokenFileOption,
} from './shared-options.ts';
import type { Terminal } from './terminal.ts';

const DEFAULT_SECONDS = 600;

type ParseInteger = (text: string) => number;

const s3Endpoint = () =>
  new Option('--s3-endpoint <url>', 'of an S3-compatible store (default: AWS_ENDPOINT_URL_S3)');
/** What -o json was called before. */
const asJson = () => new Option('--json', 'as JSON').hideHelp();

/** As the commands take it. */
const jsonOf = ({ json, output }: StoreOptions): { json?: true } =>
  json === true || output === 'json' ? { json: true } : {};

const ABOUT = `
A location is s3://..., file:///... or a path. list DIR, inspect, verify and dispose read the store
alone, from any machine, whether a job runs or not. For S3, credentials and region come from
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and the like.

Examples:
  triggerjob savepoint trigger --directory file:///backups/
  triggerjob savepoint stop --drain
  triggerjob savepoint list s3://flink-savepoints/
  triggerjob savepoint verify s3://flink-savepoints/savepoint-ccec5e-50e1b2f6395a
  triggerjob run job.yaml --from-savepoint file:///backups/savepoint-ccec5e-50e1b2f6395a`;

export function addSavepoint(
  program: Command,
  terminal: Terminal,
  outcome: Outcome,
  positive: ParseInteger,
): void {
  const savepoint = program
    .command('savepoint')
    .description('Self-contained copies of the state: take, look at, check, delete.')
    .addHelpText('afterAll', ABOUT);
  addTaking(savepoint, terminal, positive);
  savepoint
    .command('list')
    .description('The savepoints in a directory; without DIR those a JobManager remembers.')
    .argument('[directory]', 'where savepoints lie')
    .addOption(restOption())
    .addOption(s3Endpoint())
    .addOption(outputOption())
    .addOption(asJson())
    .action(async (directory: string | undefined, options: RestOptions & StoreOptions) => {
      if (directory === undefined) {
        const { listSavepoints } = await import('./savepoint.ts');
        await listSavepoints({ env: realEnv, terminal, rest: options.rest, ...jsonOf(options) });
        return;
      }
      const { listDirectory } = await import('./savepoint-store.ts');
      await listDirectory({ env: realEnv, terminal, ...options, ...jsonOf(options) }, directory);
    });
  savepoint
    .command('inspect')
    .description('What a savepoint holds: splits, key groups, objects, users, script.')
    .argument('<location>', "its location, or its number in a running job's history")
    .addOption(restOption())
    .addOption(s3Endpoint())
    .addOption(outputOption())
    .addOption(asJson())
    .action(async (location: string, options: RestOptions & StoreOptions) => {
      if (/^\d+$/.test(location)) {
        const { inspectSavepoint } = await import('./savepoint.ts');
        await inspectSavepoint({ env: realEnv, terminal, rest: options.rest }, location);
        return;
      }
      const { inspectLocation } = await import('./savepoint-store.ts');
      await inspectLocation({ env: realEnv, terminal, ...options, ...jsonOf(options) }, location);
    });
  savepoint
    .command('verify')
    .description(
      'Read every byte of a savepoint; exit 1 and the damaged objects if it is not whole.',
    )
    .argument('<location>')
    .addOption(s3Endpoint())
    .addOption(outputOption())
    .action(async (location: string, options: StoreOptions) => {
      const { verifyLocation } = await import('./savepoint-store.ts');
      const reading = { env: realEnv, terminal, ...options, ...jsonOf(options) };
      outcome.code = await verifyLocation(reading, location);
    });
  savepoint
    .command('dispose')
    .description('Delete a savepoint, and nothing else.')
    .argument('<location>')
    .addOption(s3Endpoint())
    .addOption(outputOption())
    .action(async (location: string, options: StoreOptions) => {
      const { disposeLocation } = await import('./savepoint-store.ts');
      await disposeLocation({ env: realEnv, terminal, ...options, ...jsonOf(options) }, location);
    });
}

interface RestOptions {
  rest: string;
}

interface StoreOptions {
  s3Endpoint?: string;
  json?: true;
  output?: OutputFormat;
}

interface TakeOptions extends RestOptions {
  directory?: string;
  timeout: number;
  output: OutputFormat;
}

function addTaking(savepoint: Command, terminal: Terminal, positive: ParseInteger): void {
  const taking = (name: string, description: string) =>
    savepoint
      .command(name)
      .description(description)
      .addOption(restOption())
      .addOption(tokenFileOption())
      .addOption(outputOption())
      .option('--directory <url>', "instead of the job's savepoints.directory")
      .option('--timeout <seconds>', 'how long to wait for it', positive, DEFAULT_SECONDS);
  taking('trigger', 'Take a savepoint of the running job and print its location.')
    .alias('create')
    .action(async ({ rest, directory, timeout, output }: TakeOptions) => {
      const { createSavepoint } = await import('./savepoint.ts');
      const options = { env: realEnv, terminal, rest, ...jsonOf({ output }) };
      await createSavepoint(options, directory, timeout * 1_000);
    });
  taking('stop', 'Stop the sources, take a savepoint of all before, end the job.')
    .option('--drain', 'first wait until all that was read is judged and delivered')
    .action(async ({ rest, directory, timeout, drain, output }: TakeOptions & { drain?: true }) => {
      const { stopWithSavepoint } = await import('./savepoint.ts');
      const where = directory === undefined ? {} : { directory };
      await stopWithSavepoint(
        { env: realEnv, terminal, rest, ...jsonOf({ output }) },
        { ...where, drain: drain ?? false, limitMs: timeout * 1_000 },
      );
    });
}

export function addCheckpoints(
  program: Command,
  terminal: Terminal,
  outcome: Outcome,
  positive: ParseInteger,
): void {
  const checkpoints = program
    .command('checkpoints')
    .description("A job's retained checkpoints, read from the store alone.")
    .addHelpText(
      'afterAll',
      `
Examples:
  triggerjob checkpoints list .triggerjob/demo/checkpoints
  triggerjob checkpoints verify s3://flink-checkpoints/ --job default/user-events --retained 5`,
    );
  const reading = (name: string, description: string) =>
    checkpoints
      .command(name)
      .description(description)
      .argument('<directory>', 'checkpoint directory: s3://..., file:///... or a path')
      .option('--job <namespace/name>', 'which job, where the directory holds several')
      .option('--retained <n>', 'how many of the newest the job keeps', positive, 3)
      .addOption(outputOption())
      .addOption(s3Endpoint());
  type Options = StoreOptions & { job?: string; retained: number };
  reading('list', 'The checkpoints that a start could go on from, newest first.').action(
    async (directory: string, options: Options) => {
      const { listCheckpoints } = await import('./checkpoints.ts');
      await listCheckpoints({ env: realEnv, terminal, ...options, ...jsonOf(options) }, directory);
    },
  );
  reading(
    'verify',
    'Read every byte of them; exit 1 and the damaged objects if one is not whole.',
  ).action(async (directory: string, options: Options) => {
    const { verifyCheckpoints } = await import('./checkpoints.ts');
    const reading = { env: realEnv, terminal, ...options, ...jsonOf(options) };
    outcome.code = await verifyCheckpoints(reading, directory);
  });
}
