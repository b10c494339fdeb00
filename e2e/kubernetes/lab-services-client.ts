/** Leads lab-services.ts in the lab's network. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../testbed/kubernetes/lab.ts';
import type { Addresses, Judgement, Progress, Shape } from './lab-services.ts';

const PROGRAM = fileURLToPath(new URL('lab-services.ts', import.meta.url));

export class LabServices {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#reader = createInterface({ input: child.stdout! });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  static async start(lab: Lab, shape: Shape): Promise<LabServices & { addresses: Addresses }> {
    const [enter, ...words] = lab.enterWords.split(' ');
    const args = [...words, 'setpriv', '--pdeathsig', 'KILL', '--'];
    const child = spawn(enter!, [...args, process.execPath, PROGRAM, lab.nodeAddress], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const services = new LabServices(child);
    const addresses = (await services.#ask({ do: 'start', ...shape })) as Addresses;
    return Object.assign(services, { addresses });
  }

  async produce(): Promise<void> {
    await this.#ask({ do: 'produce' });
  }

  async stop(): Promise<void> {
    await this.#ask({ do: 'stop' });
  }

  async progress(): Promise<Progress> {
    return (await this.#ask({ do: 'progress' })) as Progress;
  }

  async drain(): Promise<void> {
    await this.#ask({ do: 'drain' });
  }

  async judge(): Promise<Judgement> {
    return (await this.#ask({ do: 'judge' })) as Judgement;
  }

  async end(): Promise<void> {
    await this.#ask({ do: 'end' }).catch(() => undefined);
    this.#reader.close();
    this.#child.kill('SIGKILL');
  }

  /** One at a time. */
  async #ask(command: object): Promise<object> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the lab services ended');
    const answer = JSON.parse(value) as object & { error?: string };
    if (answer.error !== undefined) throw new Error(`lab services: ${answer.error}`);
    return answer;
  }
}
