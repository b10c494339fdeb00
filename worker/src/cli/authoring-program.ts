/** The commands for who writes a job, eval, echo and explain, and for the shell, completion. */
import { Argument, type Command, Option } from 'commander';
import { realEnv } from '../runtime/env.ts';
import { SHELLS } from './completion.ts';
import type { EvalOptions } from './eval-command.ts';
import {
  type Outcome,
  type OutputFormat,
  outputOption,
  restOption,
  tokenFileOption,
} from './shared-options.ts';
import type { Terminal } from './terminal.ts';

export function addAuthoring(program: Command, terminal: Terminal, outcome: Outcome): void {
  addEval(program, terminal, outcome);
  addEcho(program, terminal, outcome);
  addExplain(program, terminal, outcome);
}

const ABOUT_EVAL = `
JSON is written in place, or read from @FILE or @- (standard input). What is not given is empty.
With --user, profile, visit and history are those of a user of the running job (--rest), and without
a script so is the script. Exit code 1 when the script fails on this event.

Examples:
  triggerjob eval 'event.triggerable && user.country == "US"' \\
      --event '{"triggerable":true}' --profile '{"country":"DE"}'
  triggerjob eval --file filter.av --event @event.json --history @history.json --trace
  triggerjob eval --job job.yaml --event @event.json
  triggerjob eval --user u0000000533 --event @event.json --trace`;

function addEval(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('eval')
    .description('Run a filter on one event, and say which clause decided.')
    .argument('[script]', 'the filter')
    .addOption(new Option('-f, --file <file>', 'file with the filter').conflicts('job'))
    .option('-j, --job <file>', 'TriggerJob whose filter it is')
    .requiredOption('-e, --event <json>', 'the event')
    .option('-p, --profile <json>', 'what the filter sees as user')
    .option('--visit <json>', 'what it sees as visit')
    .option('--history <json>', 'a list of the events before, oldest first')
    .addOption(
      new Option('-l, --language <language>', 'of the filter (default: aviator)')
        .choices(['aviator', 'filtrex'])
        .conflicts('job'),
    )
    .addOption(
      new Option('-u, --user <id>', 'a user of the running job').conflicts([
        'profile',
        'visit',
        'history',
      ]),
    )
    .option('-t, --trace', 'show what every part gave')
    .addOption(restOption())
    .addOption(tokenFileOption())
    .addOption(outputOption())
    .addHelpText('after', ABOUT_EVAL)
    .action(async (script: string | undefined, options: EvalOptions) => {
      const { evalCommand } = await import('./eval-command.ts');
      outcome.code = await evalCommand(realEnv, terminal, script ?? null, options);
    });
}

function addEcho(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('echo')
    .description('Print a TriggerJob with all defaults filled in and secrets left out.')
    .argument('<file>', 'the TriggerJob, YAML')
    .addOption(
      new Option('-o, --output <format>', 'how to print').choices(['yaml', 'json']).default('yaml'),
    )
    .addHelpText(
      'after',
      `
Flink's keys are taken over into the fields that they set. Passwords in URLs and values of headers
that may hold credentials become ***.

Examples:
  triggerjob echo job.yaml
  diff <(triggerjob echo old.yaml) <(triggerjob echo new.yaml)
  triggerjob echo job.yaml -o json | jq .spec.checkpointing`,
    )
    .action(async (file: string, options: { output: 'yaml' | 'json' }) => {
      const { echoFile } = await import('./echo-command.ts');
      outcome.code = await echoFile(terminal, file, options.output);
    });
}

function addExplain(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('explain')
    .description('What a field of a TriggerJob means: type, unit, default, limits, example.')
    .argument('[field]', 'path of the field', 'spec')
    .option('-r, --recursive', 'all fields below it, one a line')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  triggerjob explain                             the fields of spec
  triggerjob explain spec.checkpointing.interval
  triggerjob explain checkpointing               spec. may be left out
  triggerjob explain spec.taskManager --recursive`,
    )
    .action(async (field: string, options: { recursive?: true; output: OutputFormat }) => {
      const { explainField } = await import('./explain-command.ts');
      const { recursive = false, output } = options;
      outcome.code = explainField(terminal, field, { recursive, output });
    });
}

export function addCompletion(program: Command, terminal: Terminal): void {
  program
    .command('completion')
    .description('Print a script that completes commands and options in a shell.')
    .addArgument(new Argument('<shell>', 'which one').choices([...SHELLS]))
    .addHelpText(
      'after',
      `
Examples:
  source <(triggerjob completion bash)                 in ~/.bashrc
  source <(triggerjob completion zsh)                  in ~/.zshrc
  triggerjob completion fish > ~/.config/fish/completions/triggerjob.fish`,
    )
    .action(async (shell: (typeof SHELLS)[number]) => {
      const { completionScript } = await import('./completion.ts');
      terminal.print(completionScript(program, shell));
    });
}
