/**
 * The one entry of every process: `triggerjob <command>`. The roles of a cluster (jobmanager,
 * taskmanager) are commands like the others. A process started over an IPC channel ends with the
 * process that holds the other end, so that a killed launcher leaves nothing behind.
 */
import { MessageChannel } from 'node:worker_threads';
import { EXIT } from './cli/exit-codes.ts';
import { runCommand } from './cli/program.ts';

process.once('disconnect', () => process.exit(EXIT.orphaned));
// The other end may have gone while the modules above were loading.
if (process.send !== undefined && !process.connected) process.exit(EXIT.orphaned);

// An Env's timers keep no process alive; a command that only waits for one would end half-way.
// Kept in a variable: with its other end collected, a channel closes.
const keepAlive = new MessageChannel();
keepAlive.port1.on('message', () => {});

const code = await runCommand(process.argv.slice(2));
keepAlive.port2.close();
// Explicit: idle sockets and the channels above would keep a finished command alive. A pipe that
// nobody has read yet is emptied first.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
