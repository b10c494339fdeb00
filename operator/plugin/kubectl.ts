/** kubectl as the plugin uses it: the user's own, with the user's kubeconfig. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';

/** The flags of kubectl that choose cluster and namespace. */
export interface Place {
  namespace?: string;
  context?: string;
  kubeconfig?: string;
}

const OUTPUT_BYTES = 64 * 1024 * 1024;

export class Kubectl {
  readonly #command = process.env['KUBECTL'] ?? 'kubectl';
  readonly #place: string[];

  constructor({ namespace, context, kubeconfig }: Place) {
    this.#place = [
      ...(namespace === undefined ? [] : [`--namespace=${namespace}`]),
      ...(context === undefined ? [] : [`--context=${context}`]),
      ...(kubeconfig === undefined ? [] : [`--kubeconfig=${kubeconfig}`]),
    ];
  }

  /** stdout; rejects with what kubectl says on stderr. */
  run(...args: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const options = { maxBuffer: OUTPUT_BYTES };
      execFile(this.#command, [...this.#place, ...args], options, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(stderr.trim() || error.message));
      });
    });
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.run(...args, '--output=json')) as T;
  }

  /** On the user's terminal; its exit code. */
  async show(...args: string[]): Promise<number> {
    const child = spawn(this.#command, [...this.#place, ...args], { stdio: 'inherit' });
    const [code] = await once(child, 'exit');
    return typeof code === 'number' ? code : 1;
  }
}
