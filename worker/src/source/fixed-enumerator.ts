/** The enumerator of sources whose splits stand in the plan: generated streams and files. */
import { stat } from 'node:fs/promises';
import type { DatagenSourcePlan, FileSourcePlan } from '../plan/job-plan.ts';
import { datagenSourceId } from './datagen.ts';
import { unreadable } from './file-source.ts';
import type { Split, SplitEnumerator } from './source.ts';

type Discovered = Omit<Split, 'index'>;

class FixedEnumerator implements SplitEnumerator {
  readonly #splits: readonly Discovered[];
  readonly #endOf: (split: Split) => Promise<number>;

  constructor(splits: readonly Discovered[], endOf: (split: Split) => Promise<number>) {
    this.#splits = splits;
    this.#endOf = endOf;
  }

  async discover(): Promise<Discovered[]> {
    return [...this.#splits];
  }

  async startingOffsets(splits: readonly Split[]): Promise<Map<number, number>> {
    return new Map(splits.map(({ index }) => [index, 0]));
  }

  async earliestOffsets(splits: readonly Split[]): Promise<Map<number, number>> {
    return await this.startingOffsets(splits);
  }

  async endOffsets(splits: readonly Split[]): Promise<Map<number, number>> {
    const ends = splits.map(async (split) => [split.index, await this.#endOf(split)] as const);
    return new Map(await Promise.all(ends));
  }

  /** No lag tool reads these sources. */
  async commit(): Promise<void> {}

  async close(): Promise<void> {}
}

/** An endless stream has no end: 0 says that nothing has to be waited for. */
export function datagenEnumerator(plan: DatagenSourcePlan): FixedEnumerator {
  const sourceId = datagenSourceId(plan);
  const splits = Array.from({ length: plan.splits }, (_, partition) => ({
    id: `datagen-${partition}`,
    sourceId,
    partition,
  }));
  return new FixedEnumerator(splits, async () => plan.limit ?? 0);
}

export function fileEnumerator(plan: FileSourcePlan): FixedEnumerator {
  const splits = plan.paths.map((path, partition) => ({
    id: path,
    sourceId: `file:${path}`,
    partition,
  }));
  return new FixedEnumerator(splits, async ({ id }) => {
    const { size } = await stat(id).catch((cause: unknown) => {
      throw unreadable(id, cause);
    });
    return size;
  });
}
