/** What this JobManager's process uses, for the metrics that Flink has of a JVM. */
import { availableParallelism, hostname } from 'node:os';
import { getHeapStatistics } from 'node:v8';
import { CpuMeter } from '../runtime/cpu-meter.ts';
import type { Env } from '../runtime/env.ts';

export interface ProcessFigures {
  host: string;
  rssBytes: number;
  heapUsedBytes: number;
  heapCommittedBytes: number;
  heapLimitBytes: number;
  /** Of ArrayBuffers: memory outside of the heap that JavaScript uses. */
  bufferBytes: number;
  cpuSeconds: number;
  /** null before the second reading. */
  coresUsed: number | null;
  cores: number;
}

export class ProcessMeter {
  readonly #env: Env;
  readonly #cpu = new CpuMeter();

  constructor(env: Env) {
    this.#env = env;
    this.read();
  }

  read(): ProcessFigures {
    const { user, system } = process.cpuUsage();
    const cpuSeconds = (user + system) / 1e6;
    this.#cpu.add(cpuSeconds, this.#env.monotonic());
    const { rss, heapUsed, heapTotal, arrayBuffers } = process.memoryUsage();
    return {
      host: hostname(),
      rssBytes: rss,
      heapUsedBytes: heapUsed,
      heapCommittedBytes: heapTotal,
      heapLimitBytes: getHeapStatistics().heap_size_limit,
      bufferBytes: arrayBuffers,
      cpuSeconds,
      coresUsed: this.#cpu.cores,
      cores: availableParallelism(),
    };
  }
}
