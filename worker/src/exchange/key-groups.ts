/** keyBy: user id -> key group -> subtask. Flink's assignment, so its users' sizing rules hold. */
import type { KeyGroupRange } from '../checkpoint/snapshot.ts';
import { murmur3 } from './murmur3.ts';

/** Key group of a user, 0..maxParallelism-1. Fixed for the life of the state. */
export function keyGroupOf(userId: string, maxParallelism: number): number {
  return murmur3(userId) % maxParallelism;
}

/** Subtask that owns a key group: floor(keyGroup * parallelism / maxParallelism). */
export function subtaskOf(keyGroup: number, parallelism: number, maxParallelism: number): number {
  return Math.floor((keyGroup * parallelism) / maxParallelism);
}

/** Owner table as an array: keyGroup -> subtask, from the contiguous ranges of a deployment. */
export function ownerTable(ranges: readonly KeyGroupRange[], maxParallelism: number): Uint16Array {
  const owners = new Uint16Array(maxParallelism);
  ranges.forEach((range, subtask) => {
    owners.fill(subtask, range.first, range.last + 1);
  });
  return owners;
}

export function contains(range: KeyGroupRange, keyGroup: number): boolean {
  return keyGroup >= range.first && keyGroup <= range.last;
}
