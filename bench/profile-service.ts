/** The process of profile-server.ts, seen from the benchmark that started it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { ServerMessage } from './profile-server.ts';

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

  get pid(): number {
    return this.#child.pid!;
  }

  /** From now on, what is posted to /hook goes to a fired log in `folder`, and to no other. */
  async logPostsIn(folder: string): Promise<void> {
    const answer = once(this.#child, 'message');
    this.#child.send({ logPostsIn: folder } satisfies ServerMessage);
    await answer;
  }

  close(): void {
    this.#child.disconnect();
  }
}
