/**
 * The command line: every command with its options, its help and its examples. Commands load what
 * they need when they run, so that `validate` does not wait for RocksDB and Kafka to load.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { realEnv } from '../runtime/env.ts';
import { addAuthoring, addCompletion } from './authoring-program.ts';
import { EXIT, EXIT_CODE_HELP } from './exit-codes.ts';
import { addLive } from './live-program.ts';
import { addRoles } from './role-program.ts';
import { addCheckpoints, addSavepoint } from './savepoint-program.ts';
import {
  integerFrom,
  type Outcome,
  type OutputFormat,
  outputOption,
  restOption,
  tokenFileOption,
} from './shared-options.ts';
import { Terminal } from './terminal.ts';
import { addTest } from './test-program.ts';
import { reportThrown } from './thrown.ts';

/** Runs one command line; the exit code. Never throws. */
export async function runCommand(
  args: readonly string[],
  terminal = new Terminal(process.stdout, process.stderr, process.env),
): Promise<number> {
  const outcome = { code: EXIT.ok as number };
  const program = buildProgram(terminal, outcome);
  try {
    await program.parseAsync(args, { from: 'user' });
    return outcome.code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    return reportThrown(terminal, error);
  }
}

const FIRST_STEPS = `
Begin with:
  triggerjob demo                    a whole pipeline on this machine, with nothing to install
  triggerjob explain                 what a job file may say
  triggerjob validate job.yaml       is this one right?
  triggerjob run job.yaml            then triggerjob top, triggerjob tap in another terminal
  triggerjob help test               examples of a command`;

export function buildProgram(terminal: Terminal, outcome: Outcome): Command {
  const program = new Command('triggerjob')
    .description('Event triggers over a stream of user tracking events, with big per-user state.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.print(text.trimEnd()),
      writeErr: (text) => terminal.error(text.trimEnd()),
    })
    .showHelpAfterError('(add --help for what this command takes)')
    .addHelpText('after', FIRST_STEPS)
    .addHelpText('after', `\n${EXIT_CODE_HELP}`)
    .addHelpText('after', '\nColour is left out without a terminal, and when NO_COLOR is set.');
  program.commandsGroup('Write a job:');
  addValidate(program, terminal, outcome);
  addTest(program, terminal, outcome);
  addAuthoring(program, terminal, outcome);
  program.commandsGroup('Run it:');
  addDemo(program, terminal, outcome);
  addRun(program, terminal, outcome);
  addRescale(program, terminal);
  program.commandsGroup('Look into it:');
  addLive(program, terminal, outcome);
  program.commandsGroup('Keep its state:');
  addSavepoint(program, terminal, outcome, integerFrom(1));
  addCheckpoints(program, terminal, outcome, integerFrom(1));
  program.commandsGroup('Processes of a cluster:');
  addRoles(program, outcome, integerFrom, startPoint);
  program.commandsGroup('This program:');
  addCompletion(program, terminal);
  return program;
}

function startPoint(text: string): string {
  if (text === 'latest' || text === 'earliest' || /^[1-9]\d*$/.test(text)) return text;
  throw new InvalidArgumentError('expected latest, earliest or the number of a checkpoint.');
}

const STATE_DIR = '--state-dir <dir>';

const taskManagersOption = (): Option =>
  new Option('--task-managers <n>', 'processes that the slots are divided over')
    .default(1)
    .argParser(integerFrom(1));

const jobManagersOption = (): Option =>
  new Option('--job-managers <n>', 'one leads, the others stand by; one takes over when it dies')
    .default(1)
    .argParser(integerFrom(1));

function addRun(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('run')
    .description('Run a TriggerJob file on this machine; Ctrl-C takes a final checkpoint.')
    .argument('<file>', 'the TriggerJob, YAML')
    .option(STATE_DIR, 'checkpoints, local state and logs (default: .triggerjob/<job name>)')
    .option('--store <url>', 'checkpoints there: s3://..., file:///... or a path')
    .addOption(
      new Option(
        '--from <point>',
        'offsets of a first start (earliest, latest), or the number of a checkpoint to go ' +
          'back to (default: the newest checkpoint)',
      ).argParser(startPoint),
    )
    .option('--from-savepoint <location>', 'in place of restore.savepoint of the file; used once')
    .option(
      '--rest-port <port>',
      'port of the REST API (default: 8081 or the next free)',
      integerFrom(1),
    )
    .addOption(jobManagersOption())
    .addOption(taskManagersOption())
    .addHelpText(
      'after',
      `
Without --store and --state-dir, checkpoints go to checkpointing.directory of the file; if that is
S3, only with --store. How S3 is reached is in checkpointing.s3 of the file.

Examples:
  triggerjob run job.yaml
  triggerjob run job.yaml --state-dir /var/lib/job
  triggerjob run job.yaml --store s3://flink-checkpoints/
  triggerjob run job.yaml --from 42         resume from checkpoint 42
  triggerjob run job.yaml --from-savepoint s3://flink-savepoints/savepoint-ccec5e-50e1b2f6395a
  triggerjob run job.yaml --task-managers 3 --job-managers 2`,
    )
    .action(
      async (
        file: string,
        options: {
          stateDir?: string;
          store?: string;
          from?: string;
          fromSavepoint?: string;
          restPort?: number;
          jobManagers: number;
          taskManagers: number;
        },
      ) => {
        const { runFile } = await import('./run.ts');
        outcome.code = await runFile({
          env: realEnv,
          terminal,
          file,
          stateDir: options.stateDir ?? null,
          store: options.store ?? null,
          from: options.from ?? null,
          fromSavepoint: options.fromSavepoint ?? null,
          restPort: options.restPort ?? null,
          jobManagers: options.jobManagers,
          taskManagers: options.taskManagers,
        });
      },
    );
}

function addValidate(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('validate')
    .description('Report every fault of a TriggerJob file with line and column.')
    .argument('<file>', 'the TriggerJob, YAML')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Exit code 0 and what would run, or 1 and a line FILE:LINE:COLUMN: FAULT for each fault.

Examples:
  triggerjob validate job.yaml
  triggerjob validate job.yaml -o json`,
    )
    .action(async (file: string, options: { output: 'text' | 'json' }) => {
      const { validateFile } = await import('./validate.ts');
      outcome.code = await validateFile(terminal, file, options.output);
    });
}

function addDemo(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('demo')
    .description(
      'The whole pipeline on this machine, with a demo Profile API and webhook receiver.',
    )
    .option('--kafka <host:port>', 'read topic user-tracking-events of this broker')
    .option('--produce', 'with --kafka: also write generated events into the topic')
    .option('--users <n>', 'users of the generated stream (default 1000)', integerFrom(1))
    .option('--rate <n>', 'generated events per second (default 2000)', integerFrom(1))
    .option(STATE_DIR, 'checkpoints, local state and logs (default: .triggerjob/demo)')
    .option(
      '--rest-port <port>',
      'port of the REST API (default: 8081 or the next free)',
      integerFrom(1),
    )
    .addOption(taskManagersOption())
    .addHelpText(
      'after',
      `
Examples:
  triggerjob demo
  triggerjob demo --users 100000 --rate 20000
  triggerjob demo --kafka localhost:9092 --produce`,
    )
    .action(
      async (options: {
        kafka?: string;
        produce?: true;
        users?: number;
        rate?: number;
        stateDir?: string;
        restPort?: number;
        taskManagers: number;
      }) => {
        const { runDemo } = await import('./demo.ts');
        outcome.code = await runDemo({
          env: realEnv,
          terminal,
          kafka: options.kafka ?? null,
          produce: options.produce ?? false,
          users: options.users ?? null,
          rate: options.rate ?? null,
          stateDir: options.stateDir ?? null,
          restPort: options.restPort ?? null,
          taskManagers: options.taskManagers,
        });
      },
    );
}

function addRescale(program: Command, terminal: Terminal): void {
  program
    .command('rescale')
    .description('Ask a running job for another parallelism, for good.')
    .requiredOption('--parallelism <n>', 'subtasks, up to maxParallelism', integerFrom(1))
    .addOption(restOption())
    .addOption(tokenFileOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
The job takes a checkpoint and goes on from it. With fewer slots it takes those that are there, and
the rest when they come. Until spec.parallelism changes, restarts keep what was asked for.

Examples:
  triggerjob rescale --parallelism 8
  triggerjob rescale --parallelism 2 --rest http://127.0.0.1:8081`,
    )
    .action(async (options: { rest: string; parallelism: number; output: OutputFormat }) => {
      const { rescaleJob } = await import('./rescale.ts');
      const { rest, parallelism, output } = options;
      const json = output === 'json' ? ({ json: true } as const) : {};
      await rescaleJob({ env: realEnv, terminal, rest, ...json }, parallelism);
    });
}
