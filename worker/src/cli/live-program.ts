/** The commands that look into a running job, and into stored state: top, tap, users, state. */
import { type Command, Option } from 'commander';
import { realEnv } from '../runtime/env.ts';
import {
  integerFrom,
  type Outcome,
  type OutputFormat,
  outputOption,
  restOption,
  tokenFileOption,
} from './shared-options.ts';
import type { StateGetOptions } from './state-get.ts';
import type { Terminal } from './terminal.ts';

const STATE_DIR = '--state-dir <dir>';
const STAGES = ['source', 'keyed', 'enriched', 'matched', 'fired', 'dropped'];

export function addLive(program: Command, terminal: Terminal, outcome: Outcome): void {
  addTop(program, terminal);
  addTap(program, terminal);
  addUsers(program, terminal);
  addState(program, terminal, outcome);
}

function addTop(program: Command, terminal: Terminal): void {
  program
    .command('top')
    .description('A live table of a running job: rates, lag, busy, checkpoints.')
    .addOption(restOption())
    .addOption(tokenFileOption())
    .option('--interval <seconds>', 'between two looks', integerFrom(1), 1)
    .option('--subtasks', 'a row per subtask in place of one per TaskManager')
    .option('--keys', 'the users with most events, too (needs the token, where there is one)')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Without a terminal, and with -o json, one table after one interval. Ctrl-C ends it.

Examples:
  triggerjob top
  triggerjob top --subtasks --keys
  triggerjob top --rest http://user-events-rest:8081 -o json`,
    )
    .action(
      async (options: {
        rest: string;
        interval: number;
        subtasks?: true;
        keys?: true;
        output: OutputFormat;
      }) => {
        const { top } = await import('./top.ts');
        const { rest, interval, subtasks = false, keys = false, output } = options;
        const intervalMs = interval * 1_000;
        await top({ env: realEnv, terminal, rest, intervalMs, subtasks, keys, output });
      },
    );
}

function addTap(program: Command, terminal: Terminal): void {
  program
    .command('tap')
    .description('Events as they pass a stage of a running job, with what became of them.')
    .addOption(new Option('-s, --stage <stage>', 'where to look').choices(STAGES).default('keyed'))
    .option('-u, --user <id>', 'only events of this user')
    .option('-n, --limit <n>', 'end after so many records', integerFrom(1))
    .addOption(restOption())
    .addOption(tokenFileOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
A busy job is sampled: what is left out is counted. Connects again when the JobManager is gone.
source: as read. keyed: routed to its user. enriched: with profile and visit. matched, fired: the
filter said yes, the webhook has it. dropped: no match, or the reason of an error.

Examples:
  triggerjob tap --user u0000000533
  triggerjob tap --stage matched --limit 10
  triggerjob tap --stage dropped -o json | jq .reason`,
    )
    .action(
      async (options: {
        stage: string;
        user?: string;
        limit?: number;
        rest: string;
        output: OutputFormat;
      }) => {
        const { tap } = await import('./tap.ts');
        const { stage, user = null, limit = null, rest, output } = options;
        await tap({ env: realEnv, terminal, rest, stage, user, limit, output });
      },
    );
}

function addUsers(program: Command, terminal: Terminal): void {
  const users = program
    .command('users')
    .description('Users of a running job.')
    .addHelpText(
      'afterAll',
      `
Examples:
  triggerjob users hot
  triggerjob users hot --by state --limit 5 -o json`,
    );
  users
    .command('hot')
    .description('The users with most events, bytes or state.')
    .addOption(
      new Option('--by <what>', 'order').choices(['events', 'bytes', 'state']).default('events'),
    )
    .option('-n, --limit <n>', 'how many', integerFrom(1), 20)
    .addOption(restOption())
    .addOption(tokenFileOption())
    .addOption(outputOption())
    .action(async (options: { by: string; limit: number; rest: string; output: OutputFormat }) => {
      const { hotUsers } = await import('./hot-keys.ts');
      await hotUsers({ env: realEnv, terminal, ...options });
    });
}

function addState(program: Command, terminal: Terminal, outcome: Outcome): void {
  const state = program
    .command('state')
    .description('Look at the state: one user, or all of a checkpoint.')
    .addHelpText(
      'after',
      `
Examples:
  triggerjob state get --user u0000000533
  triggerjob state dump --state-dir .triggerjob/demo`,
    );
  state
    .command('get')
    .description("One user's profile, visit and history, of a running job or from the store.")
    .requiredOption('-u, --user <id>', 'which user')
    .addOption(
      new Option(
        '--from <location>',
        'a savepoint, or a checkpoint directory: s3://..., file:///... or a path',
      ).conflicts(['stateDir']),
    )
    .option(STATE_DIR, 'state directory of a local run')
    .option('--job <namespace/name>', 'which job, where a checkpoint directory holds several')
    .option('--checkpoint <id>', 'instead of the last completed one', integerFrom(1))
    .option('--s3-endpoint <url>', 'of an S3-compatible store (default: AWS_ENDPOINT_URL_S3)')
    .option('--history <n>', 'newest events of the history to show', integerFrom(0), 10)
    .addOption(restOption())
    .addOption(tokenFileOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Exit code 1 when the user is not in state.

Examples:
  triggerjob state get --user u0000000533
  triggerjob state get --user u0000000533 --state-dir .triggerjob/demo -o json
  triggerjob state get --user u0000000533 --from s3://flink-savepoints/savepoint-ccec5e-50e1b2f639`,
    )
    .action(async (options: StateGetOptions) => {
      const { stateGet } = await import('./state-get.ts');
      outcome.code = await stateGet(realEnv, terminal, options);
    });
  addDump(state, terminal);
}

function addDump(state: Command, terminal: Terminal): void {
  state
    .command('dump')
    .description('Print every user of a checkpoint as NDJSON, sorted by user_id.')
    .addOption(new Option(STATE_DIR, 'state directory of a local run').conflicts('store'))
    .option('--store <url>', 'checkpoint directory: s3://..., file:///... or a path')
    .option('--s3-endpoint <url>', 'of an S3-compatible store (default: AWS_ENDPOINT_URL_S3)')
    .option('--job <namespace/name>', 'which job, where the directory holds several')
    .option('--checkpoint <id>', 'instead of the last completed one', integerFrom(1))
    .option('--out <file>', 'write there instead of standard output')
    .addHelpText(
      'after',
      `
Reads the checkpoint's objects only; the job may run or not, local state is not needed. For S3,
credentials and region come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and the like.

Examples:
  triggerjob state dump --state-dir .triggerjob/demo | head -n 1
  triggerjob state dump --store /var/checkpoints --job default/user-events --out users.ndjson
  triggerjob state dump --store s3://flink-checkpoints/ --job default/user-events`,
    )
    .action(
      async (options: {
        stateDir?: string;
        store?: string;
        s3Endpoint?: string;
        job?: string;
        checkpoint?: number;
        out?: string;
      }) => {
        const { dumpCommand } = await import('./dump-command.ts');
        await dumpCommand(realEnv, terminal, options);
      },
    );
}
