/**
 * The roles' part of the command line: a launcher starts them on a laptop, the operator in pods.
 */
import { type Command, Option } from 'commander';
import { SLOT_HEAP } from '../plan/memory.ts';
import type { JobManagerRole, TaskManagerRole } from './roles.ts';
import type { Outcome } from './shared-options.ts';

type Parser<T> = (text: string) => T;

const secretFileOption = (): Option =>
  new Option('--secret-file <file>', "the job's secret: TLS on RPC and shuffle, plain without");

/** `integerFrom`: a whole number from the given one on. `startPoint`: of `--from`. */
export function addRoles(
  program: Command,
  outcome: Outcome,
  integerFrom: (lowest: number) => Parser<number>,
  startPoint: Parser<string>,
): void {
  addJobManager(program, outcome, integerFrom, startPoint);
  addTaskManager(program, outcome, integerFrom);
}

function addJobManager(
  program: Command,
  outcome: Outcome,
  integerFrom: (lowest: number) => Parser<number>,
  startPoint: Parser<string>,
): void {
  const command = program
    .command('jobmanager')
    .description('The JobManager of one job (started by the launcher or the operator).')
    .requiredOption('--plan <file>', 'the TriggerJob, YAML; read as a cluster does, unless:')
    .option('--plan-json <file>', 'the resolved plan, in place of what --plan resolves to')
    .option('--store <url>', "checkpoint directory (default: the plan's)")
    .option('--rpc-port <port>', 'for TaskManagers; 0 = any', integerFrom(0), 0)
    .option('--rest-port <port>', 'for the REST API; 0 = any', integerFrom(0), 0)
    .addOption(
      new Option('--from <point>', 'earliest, latest or a checkpoint').argParser(startPoint),
    )
    .option('--port-file <file>', 'write {rpcPort, restPort, pid} there once it listens')
    .option(
      '--advertise-host <name>',
      'where others reach it (default: the address it listens on, or the host name)',
    )
    .addOption(
      new Option('--on-sigterm <what>', 'end the job, or only hand the leadership over')
        .choices(['stop-job', 'release'])
        .default('stop-job'),
    )
    .addOption(secretFileOption())
    .option(
      '--rest-token-file <file>',
      'who changes something over REST bears a token, one a line',
    );
  addOperatorOptions(command, integerFrom).action(async (options: JobManagerRole) => {
    const { runJobManagerRole } = await import('./roles.ts');
    outcome.code = await runJobManagerRole(options);
  });
}

function addOperatorOptions(
  command: Command,
  integerFrom: (lowest: number) => Parser<number>,
): Command {
  return command
    .option('--run <n>', "the operator's count of deployments: only goes up", integerFrom(1))
    .option(
      '--job-created-at <ms>',
      'of the TriggerJob: one that is made again under its name counts its runs anew',
      integerFrom(1),
    )
    .addOption(
      new Option(
        '--start <what>',
        'stateless: this run begins with empty state, once; first: no run before has stored any',
      )
        .choices(['stateless', 'first'])
        .conflicts('restoreSavepoint'),
    )
    .option('--restore-savepoint <location>', 'this run begins with that savepoint, once')
    .addOption(
      new Option('--on-end <what>', 'a job that has ended: leave, or stay and show how')
        .choices(['exit', 'stay'])
        .default('exit'),
    )
    .addOption(
      new Option('--leader-election <by>', 'a lock in the store, or a Lease of Kubernetes')
        .choices(['store', 'kubernetes'])
        .default('store'),
    )
    .option('--lease <name>', "of --leader-election kubernetes, in the job's namespace")
    .option('--lease-owner <uid>', 'of the TriggerJob: the Lease is deleted with it')
    .addHelpText(
      'after',
      `
A job that has ended (finished, stopped, cancelled, failed) in a run is not started again by any
JobManager of that run or an earlier one; a later run goes on from its newest checkpoint, unless it
begins otherwise, and does not begin where there is none.

Example:
  triggerjob jobmanager --plan job.yaml --store s3://flink-checkpoints/ --rest-port 8081`,
    );
}

function addTaskManager(
  program: Command,
  outcome: Outcome,
  integerFrom: (lowest: number) => Parser<number>,
): void {
  program
    .command('taskmanager')
    .description('A TaskManager (started by the launcher or the operator).')
    .option('--jobmanager <host:port,...>', 'RPC addresses of all JobManagers')
    .option(
      '--jobmanager-port-files <file...>',
      'in place of it: the --port-file of each one on this machine; waited for',
    )
    .requiredOption('--local-state-dir <dir>', 'RocksDB and spooled segments; a cache')
    .option('--slots <n>', 'subtasks it can run', integerFrom(1), 4)
    .addOption(
      new Option('--slot-heap <MiB>', "of each slot, by the job's plan: threads start before tasks")
        .env(SLOT_HEAP)
        .argParser(integerFrom(1)),
    )
    .option('--id <name>', 'its name in logs and REST (default: random)')
    .option('--shuffle-port <port>', 'for other TaskManagers; 0 = any', integerFrom(0), 0)
    .option(
      '--shuffle-host <address>',
      'to listen on for them, and told to them (default: that of the RPC connection)',
    )
    .addOption(secretFileOption())
    .option('--health-port <port>', '/healthz, /readyz and /metrics there', integerFrom(0))
    .addHelpText(
      'after',
      `
Example:
  triggerjob taskmanager --jobmanager 10.0.0.1:6123 --local-state-dir /data --secret-file secret`,
    )
    .action(async (options: TaskManagerRole) => {
      const { runTaskManagerRole } = await import('./roles.ts');
      outcome.code = await runTaskManagerRole(options);
    });
}
