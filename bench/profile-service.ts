/** The process of profile-server.ts, seen from the benchmark that started it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { HookReport, ServerMessage } from './profile-server.ts';

export class ProfileService {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(): Promise<ProfileService> {
    const child = fork(new URL('./profile-server.ts', import.meta.url), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new ProfileService(child, port);
  }

  /** What was posted to /hook since the last `reset`. */
  async report(): Promise<HookReport> {
    return await this.#ask({ type: 'report' });
  }

  async reset(): Promise<void> {
    await this.#ask({ type: 'reset' });
  }

  close(): void {
    this.#child.disconnect();
  }

  async #ask(message: ServerMessage): Promise<HookReport> {
    const answer = once(this.#child, 'message');
    this.#child.send(message);
    return ((await answer) as [HookReport])[0];
  }
}
