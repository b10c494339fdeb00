/**
 * What is known of a replacement of lost tasks while it goes on (P52): pure. Who is asked: every
 * task that runs on, then every successor and every TaskManager that runs on, then all tasks.
 */
import type { AcceptedPosition } from '../exchange/accepted-offsets.ts';
import type { Report } from '../rpc/messages.ts';

interface Task {
  readonly subtask: number;
  readonly attempt: number;
}

/** Free slots for the lost subtasks; null: not enough of them. */
export function placeLost<Host extends { readonly id: string; readonly slots: number }>(
  lost: readonly number[],
  running: readonly { readonly taskManager: Host; readonly slot: number }[],
  hosts: readonly Host[],
): { subtask: number; taskManager: Host; slot: number }[] | null {
  const free = hosts.map((host) => {
    const used = new Set(
      running.filter(({ taskManager }) => taskManager === host).map(({ slot }) => slot),
    );
    const slots = Array.from({ length: host.slots }, (_, slot) => slot);
    return { host, tasks: used.size, slots: slots.filter((slot) => !used.has(slot)) };
  });
  const placed: { subtask: number; taskManager: Host; slot: number }[] = [];
  for (const subtask of lost) {
    // The emptiest: a TaskManager that came in place of the lost one, as a rule.
    free.sort((a, b) => a.tasks - b.tasks || (a.host.id < b.host.id ? -1 : 1));
    const chosen = free.find(({ slots }) => slots.length > 0);
    if (chosen === undefined) return null;
    placed.push({ subtask, taskManager: chosen.host, slot: chosen.slots.shift()! });
    chosen.tasks++;
  }
  return placed;
}

export class ReplayProgress {
  readonly #survivors: ReadonlyMap<number, number>;
  readonly #detached = new Map<number, readonly AcceptedPosition[]>();
  readonly #running = new Set<number>();
  readonly #replaced = new Set<string>();
  readonly #caughtUp = new Set<number>();
  #attempt: number | null = null;

  /** `survivors`: the tasks that run on. */
  constructor(survivors: readonly Task[]) {
    this.#survivors = new Map(survivors.map(({ subtask, attempt }) => [subtask, attempt]));
  }

  /** The successors are being deployed in `attempt`. */
  deployed(attempt: number): void {
    this.#attempt = attempt;
  }

  report(taskManagerId: string, report: Report): void {
    switch (report.type) {
      case 'detached':
        if (this.#survivors.get(report.subtask) !== report.attempt) return;
        this.#detached.set(report.subtask, report.positions);
        return;
      case 'running':
        if (report.attempt === this.#attempt) this.#running.add(report.subtask);
        return;
      case 'replaced':
        if (report.attempt === this.#attempt) this.#replaced.add(taskManagerId);
        return;
      case 'caught-up':
        if (report.attempt !== (this.#survivors.get(report.subtask) ?? this.#attempt)) return;
        this.#caughtUp.add(report.subtask);
    }
  }

  get allDetached(): boolean {
    return [...this.#survivors.keys()].every((subtask) => this.#detached.has(subtask));
  }

  /** `running`: the successors; `told`: TaskManagers that ran on. */
  isDeployed(running: readonly number[], told: readonly string[]): boolean {
    return (
      running.every((subtask) => this.#running.has(subtask)) &&
      told.every((id) => this.#replaced.has(id))
    );
  }

  hasCaughtUp(subtasks: readonly number[]): boolean {
    return subtasks.every((subtask) => this.#caughtUp.has(subtask));
  }

  /** Of each split, the furthest that any task accepted before the loss. */
  get goals(): AcceptedPosition[] {
    const furthest = new Map<number, number>();
    for (const positions of this.#detached.values()) {
      for (const { split, offset } of positions) {
        furthest.set(split, Math.max(furthest.get(split) ?? 0, offset));
      }
    }
    return [...furthest].map(([split, offset]) => ({ split, offset }));
  }
}
