import { runCommand } from './program.ts';
import { Terminal } from './terminal.ts';

/** One command line in this process, without a terminal; what it wrote. */
export async function runHere(
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const written = { out: '', err: '' };
  const stream = (name: 'out' | 'err') => ({
    write: (text: string | Uint8Array) => {
      written[name] += String(text);
      return true;
    },
  });
  const code = await runCommand(args, new Terminal(stream('out'), stream('err'), {}));
  return { code, ...written };
}
