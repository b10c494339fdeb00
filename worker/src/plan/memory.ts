/**
 * Flink's memory model for one TaskManager process. With P = taskmanager.memory.process.size:
 *
 *     managed   M = managedSize, else P x managedFraction (0.4)
 *     network   N = P x networkFraction (0.1), within networkMin and networkMax
 *     overhead  O = P x 0.1, within 192 MiB and 1 GiB: Node itself, main thread, stacks, code
 *     heap      H = heapSize, else P - M - N - O: events under way, parked events, outbox
 *
 * Each of the S slots gets m = M / S and h = H / S:
 *
 *     live users (slotCache)      0.50 m   their texts outside of V8, their objects in its heap
 *     RocksDB block cache         0.15 m   behind it is the page cache
 *     RocksDB memtables           0.25 m   a user's rows overwrite each other here, not on disk
 *     delta rows                  0.10 m
 *     parked events and outbox    0.25 h   Buffers, outside of V8
 *
 * Of the live users at most half is objects of V8's heap (users with hardly any text), so the heap
 * limit is heapBytes = H - S x outbox + S x slotCache / 2, and the process holds heapBytes +
 * S x (slotCache / 2 + outbox + block cache + memtables + delta) + N + O <= P. Without that shift a
 * full user cache would end a slot with V8's out-of-memory.
 */
import type { JobPlan, MemoryPlan } from './job-plan.ts';
import { formatSize } from './size.ts';

const MEBIBYTE = 1024 * 1024;
const OVERHEAD = { fraction: 0.1, minBytes: 192 * MEBIBYTE, maxBytes: 1024 * MEBIBYTE };
const OUTBOX_SHARE = 0.25;
/** Beyond this the events under way of a slot no longer find room. */
const MAX_OUTBOX_SHARE = 0.75;
/** A slot thread with less does not even load its code. */
const MIN_HEAP_PER_SLOT_BYTES = 32 * MEBIBYTE;
/** Less is no cache: RocksDB would flush a memtable every few rows. */
const MIN_MANAGED_PER_SLOT_BYTES = 4 * MEBIBYTE;
/** Each channel has a buffer that is filled and one under way. */
const BUFFERS_PER_CHANNEL = 2;

export const DEFAULT_PROCESS_BYTES = 4096 * MEBIBYTE;

/** Bytes, except the fractions. Absent shares of a slot are divided by the weights above. */
export interface MemoryRequest {
  processBytes: number;
  slots: number;
  parallelism: number;
  bufferBytes: number;
  managedFraction: number;
  managedSize?: number | undefined;
  networkFraction: number;
  networkMin: number;
  networkMax?: number | undefined;
  heapSize?: number | undefined;
  slotCache?: number | undefined;
  slotBlockCache?: number | undefined;
  slotMemtables?: number | undefined;
  slotDelta?: number | undefined;
  slotOutbox?: number | undefined;
}

/** What does not fit: the spec field to change, and the end of a sentence that begins with it. */
export interface MemoryProblem {
  field: 'process' | 'managed' | 'network' | 'heapSize' | 'slots' | 'slotOutbox';
  problem: string;
}

export type MemoryDivision =
  | { plan: MemoryPlan; overheadBytes: number }
  | { problems: MemoryProblem[] };

type Share = 'slotCache' | 'slotBlockCache' | 'slotMemtables' | 'slotDelta';

const WEIGHTS: Record<Share, number> = {
  slotCache: 0.5,
  slotBlockCache: 0.15,
  slotMemtables: 0.25,
  slotDelta: 0.1,
};

const within = (value: number, min: number, max: number): number =>
  Math.min(Math.max(value, min), max);

/** Divides the process, or says all that does not fit. */
export function divideMemory(request: MemoryRequest): MemoryDivision {
  const { processBytes: process, slots } = request;
  const problems: MemoryProblem[] = [];
  const managed = request.managedSize ?? Math.floor(process * request.managedFraction);
  const networkMax = request.networkMax ?? process;
  const network = within(
    Math.floor(process * request.networkFraction),
    request.networkMin,
    Math.max(networkMax, request.networkMin),
  );
  const overhead = within(
    Math.floor(process * OVERHEAD.fraction),
    OVERHEAD.minBytes,
    OVERHEAD.maxBytes,
  );
  const left = process - managed - network - overhead;
  const heap = request.heapSize ?? left;
  const parts =
    `${formatSize(managed)} managed, ${formatSize(network)} network and ` +
    `${formatSize(overhead)} overhead`;
  if (left < slots * MIN_HEAP_PER_SLOT_BYTES) {
    const problem =
      `is ${formatSize(process)}: beside ${parts} it leaves less than ` +
      `${formatSize(MIN_HEAP_PER_SLOT_BYTES)} of heap for each of ${slots} slots; raise it, or ` +
      'lower slots or the fractions';
    problems.push({ field: 'process', problem });
  } else if (heap > left || heap < slots * MIN_HEAP_PER_SLOT_BYTES) {
    const least = formatSize(slots * MIN_HEAP_PER_SLOT_BYTES);
    const problem = `is ${formatSize(heap)}: beside ${parts} write ${least} to ${formatSize(left)}`;
    problems.push({ field: 'heapSize', problem });
  }
  if (request.networkMin > networkMax) {
    const problem = `has networkMin ${formatSize(request.networkMin)} above networkMax: lower it`;
    problems.push({ field: 'network', problem });
  }
  problems.push(...networkProblems(request, network));
  const shares = divideSlot(request, Math.floor(managed / slots), problems);
  const outbox = outboxOf(request, Math.floor(Math.max(heap, 0) / slots), problems);
  if (problems.length > 0) return { problems };
  const plan: MemoryPlan = {
    processBytes: process,
    managedBytes: managed,
    networkBytes: network,
    heapBytes: heap - slots * outbox + slots * Math.floor(shares.slotCache / 2),
    slotCacheBytes: shares.slotCache,
    slotBlockCacheBytes: shares.slotBlockCache,
    slotMemtableBytes: shares.slotMemtables,
    slotOutboxBytes: outbox,
    slotDeltaBytes: shares.slotDelta,
  };
  return { plan, overheadBytes: overhead };
}

/** Every slot has a channel to every subtask; with fewer buffers the exchange could deadlock. */
function networkProblems(request: MemoryRequest, network: number): MemoryProblem[] {
  const { slots, parallelism, bufferBytes } = request;
  const needed = slots * parallelism * BUFFERS_PER_CHANNEL * bufferBytes;
  if (network >= needed) return [];
  const problem =
    `leaves ${formatSize(network)} for exchange buffers, ${slots} slots x ${parallelism} subtasks` +
    ` need ${formatSize(needed)}: raise networkFraction or networkMin, or lower bufferSize`;
  return [{ field: 'network', problem }];
}

function divideSlot(
  request: MemoryRequest,
  slotBytes: number,
  problems: MemoryProblem[],
): Record<Share, number> {
  const names = Object.keys(WEIGHTS) as Share[];
  const open = names.filter((name) => request[name] === undefined);
  const given = names.reduce((sum, name) => sum + (request[name] ?? 0), 0);
  const rest = slotBytes - given;
  const weight = open.reduce((sum, name) => sum + WEIGHTS[name], 0);
  const shares = { slotCache: 0, slotBlockCache: 0, slotMemtables: 0, slotDelta: 0 };
  for (const name of names) {
    shares[name] = request[name] ?? Math.floor((rest * WEIGHTS[name]) / weight);
  }
  if (slotBytes < MIN_MANAGED_PER_SLOT_BYTES) {
    const problem =
      `leaves ${formatSize(Math.max(slotBytes, 0))} of managed memory per slot: ` +
      `give at least ${formatSize(MIN_MANAGED_PER_SLOT_BYTES)}`;
    problems.push({ field: 'managed', problem });
  } else if (rest < 0 || (rest === 0 && open.length > 0)) {
    const problem =
      `has slot shares of ${formatSize(given)}, but managed memory is ${formatSize(slotBytes)} ` +
      'per slot: lower slotCache, slotBlockCache, slotMemtables or slotDelta';
    problems.push({ field: 'slots', problem });
  }
  return shares;
}

function outboxOf(
  request: MemoryRequest,
  slotHeapBytes: number,
  problems: MemoryProblem[],
): number {
  const outbox = request.slotOutbox ?? Math.floor(slotHeapBytes * OUTBOX_SHARE);
  const most = Math.floor(slotHeapBytes * MAX_OUTBOX_SHARE);
  if (outbox > most) {
    const limit = `${formatSize(most)}, 3/4 of a slot's heap`;
    const problem = `is ${formatSize(outbox)}: write at most ${limit}`;
    problems.push({ field: 'slotOutbox', problem });
  }
  return outbox;
}

/** The variable that tells a TaskManager of `slotHeapMebibytes`. */
export const SLOT_HEAP = 'TRIGGERJOB_SLOT_HEAP';

/** V8's limit for the thread of one slot, MiB: its share of what all heaps get. */
export function slotHeapMebibytes(plan: Pick<JobPlan, 'memory' | 'slotsPerTaskManager'>): number {
  return Math.ceil(plan.memory.heapBytes / plan.slotsPerTaskManager / MEBIBYTE);
}
