/** Faults as they are on: services that are down, points at which a process is yet to die. */

import type { SimProcess } from '../rehearsal/sim-process.ts';
import type { Service } from './model-services.ts';
import type { CrashPoint } from './scenario.ts';

export class Faults {
  readonly #down = new Map<Service, { untilMs: number; only?: number | undefined }>();
  readonly #crashes: CrashPoint[];

  constructor(crashPoints: readonly CrashPoint[]) {
    this.#crashes = crashPoints.map((point) => ({ ...point }));
  }

  /** `only`: this subtask's alone. */
  outage(service: Service, untilMs: number, only?: number): void {
    this.#down.set(service, { untilMs, only });
  }

  isDown(service: Service, nowMs: number, subtask?: number): boolean {
    const { untilMs, only } = this.#down.get(service) ?? { untilMs: 0 };
    return nowMs < untilMs && (only === undefined || only === subtask);
  }

  /** Whether the process is to die at this point, now. */
  dies(process: SimProcess, point: string): boolean {
    const at = this.#crashes.findIndex((one) => one.role === process.role && one.point === point);
    const crash = this.#crashes[at];
    if (crash === undefined || --crash.nth > 0) return false;
    this.#crashes.splice(at, 1);
    return true;
  }

  heal(): void {
    this.#down.clear();
    this.#crashes.length = 0;
  }
}
