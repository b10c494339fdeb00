/** The command `triggerjob test` with its options. */
import type { Command } from 'commander';
import { realEnv } from '../runtime/env.ts';
import { type Outcome, type OutputFormat, outputOption } from './shared-options.ts';
import type { Terminal } from './terminal.ts';

const ABOUT = `
FILE is a TriggerJob; its tests lie beside it, job.yaml's in job.tests.yaml (kubectl apply -f
job.yaml never sees them). A *.tests.yaml may be given itself. The job's own code runs, from source
to webhook, with one slot, in memory, under a virtual clock: a wait of a day takes no time.

  profiles: { u1: { profile: { country: US } }, u2: 404 }   # what the Profile API answers
  tests:
    - name: a delivery is not doubled by a crash
      steps:
        - event: { user_id: u1, event_name: click, triggerable: true }
        - checkpoint               # what a crash goes back to
        - webhook: 503             # or down, no-reply, 200
        - crash                    # here; restore, go on
        - wait: 11m                # users expire by this clock
        - expect: { deliveries: [{ userId: u1, event: { event_name: click } }], repeats: 0 }
        - expect: { state: { u1: absent }, deadLetters: [] }

An expected object names only the fields that matter; lists are whole. Deliveries count once per id;
a repeat that invariant I3 does not allow fails every test. Exit code 1 when a test fails.

Examples:
  triggerjob test job.yaml
  triggerjob test jobs/*.tests.yaml --name crash
  triggerjob test job.yaml -o json`;

export function addTest(program: Command, terminal: Terminal, outcome: Outcome): void {
  program
    .command('test')
    .description("Run a job's tests: events in, deliveries and state out, crashes on the way.")
    .argument('<file...>', 'TriggerJobs, or their *.tests.yaml')
    .option('-n, --name <text>', 'only tests whose name contains this')
    .addOption(outputOption())
    .addHelpText('after', ABOUT)
    .action(async (files: string[], options: { name?: string; output: OutputFormat }) => {
      const { testFiles } = await import('./test-command.ts');
      const { output, name = null } = options;
      outcome.code = await testFiles({ env: realEnv, terminal, files, name, output });
    });
}
