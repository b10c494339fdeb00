/** Figures that follow from several fields. Shared by rules.ts and build.ts, so that both agree. */
import { parseDuration } from './duration.ts';
import type { StartingOffsets } from './job-plan.ts';
import { DEFAULT_PROCESS_BYTES, divideMemory, type MemoryDivision } from './memory.ts';
import { parseTimestamp } from './scalar-rules.ts';
import type { CompleteTriggerJob } from './schema.ts';
import { parseSize } from './size.ts';

export type CompleteSpec = CompleteTriggerJob['spec'];

/** A spec whose broken and missing fields are absent. */
export type Loose<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [K in keyof T]?: Loose<T[K]> | undefined }
    : T;

export type LooseSpec = Loose<CompleteSpec>;

/** Milliseconds of a duration that validate.ts has passed. */
export function ms(text: string): number {
  return parseDuration(text) ?? Number.NaN;
}

/** Bytes of a size that validate.ts has passed. */
export function bytes(value: string | number): number {
  return parseSize(value) ?? Number.NaN;
}

const optionalBytes = (value: string | number | undefined): number | undefined =>
  value === undefined ? undefined : bytes(value);

export interface Parallelism {
  parallelism: number;
  slots: number;
  taskManagers: number;
}

/**
 * parallelism defaults to slots x replicas (and so follows `kubectl scale`), replicas to as many as
 * parallelism needs, one if neither is given. Null while a field it needs is broken.
 */
export function parallelismOf(
  spec: LooseSpec,
  isBroken: (path: string) => boolean,
): Parallelism | null {
  const slots = spec.taskManager?.slots;
  if (slots === undefined) return null;
  if (isBroken('spec.parallelism') || isBroken('spec.taskManager.replicas')) return null;
  const replicas = spec.taskManager?.replicas;
  const taskManagers = replicas ?? Math.ceil((spec.parallelism ?? 1) / slots);
  return { parallelism: spec.parallelism ?? taskManagers * slots, slots, taskManagers };
}

const DEFAULT_MIN_PAUSE_MS = 30_000;

/** With an interval below the default pause, that pause would silently stretch the interval. */
export function minPauseMs(intervalMs: number, minPause: string | undefined): number {
  if (minPause !== undefined) return ms(minPause);
  return intervalMs < DEFAULT_MIN_PAUSE_MS ? 0 : DEFAULT_MIN_PAUSE_MS;
}

export function startingOffsets(kind: string, timestamp: string | number): StartingOffsets {
  if (kind === 'timestamp') return { kind, timestampMs: parseTimestamp(timestamp) ?? 0 };
  return { kind: kind === 'latest' ? 'latest' : 'earliest' };
}

/** Null while a field it needs is broken. */
export function memoryOf(spec: LooseSpec, parallelism: Parallelism): MemoryDivision | null {
  const { memory, resources } = spec.taskManager ?? {};
  const buffer = spec.exchange?.bufferSize;
  const { managedFraction, networkFraction, networkMin } = memory ?? {};
  if (buffer === undefined || networkMin === undefined) return null;
  if (managedFraction === undefined || networkFraction === undefined) return null;
  return divideMemory({
    processBytes:
      optionalBytes(resources?.limits?.memory ?? resources?.requests?.memory) ??
      DEFAULT_PROCESS_BYTES,
    slots: parallelism.slots,
    parallelism: parallelism.parallelism,
    bufferBytes: bytes(buffer),
    managedFraction,
    managedSize: optionalBytes(memory?.managedSize),
    networkFraction,
    networkMin: bytes(networkMin),
    networkMax: optionalBytes(memory?.networkMax),
    heapSize: optionalBytes(memory?.heapSize),
    slotCache: optionalBytes(memory?.slotCache),
    slotBlockCache: optionalBytes(memory?.slotBlockCache),
    slotMemtables: optionalBytes(memory?.slotMemtables),
    slotDelta: optionalBytes(memory?.slotDelta),
    slotOutbox: optionalBytes(memory?.slotOutbox),
  });
}
