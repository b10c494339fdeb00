/** How a checkpoint or savepoint that somebody asked for is getting on. Pure. */
import type { Operation } from './api-types.ts';

export type Asked = 'savepoint' | 'checkpoint';

export type OperationState =
  | { kind: 'running'; asked: Asked; ratio: number | null; copied: number | null }
  | { kind: 'done'; asked: Asked; location: string | null; checkpointId: number | null }
  | { kind: 'failed'; asked: Asked; reason: string };

export function operationState(asked: Asked, answer: Operation): OperationState {
  if (answer.status.id !== 'COMPLETED') {
    const copied = answer.progress?.['copied-bytes'] ?? null;
    const total = answer.progress?.['total-bytes'] ?? 0;
    const ratio = copied === null || total <= 0 ? null : Math.min(1, copied / total);
    return { kind: 'running', asked, ratio, copied };
  }
  const { operation = {} } = answer;
  const failure = operation['failure-cause'] ?? operation.failureCause;
  if (failure !== undefined) return { kind: 'failed', asked, reason: failure['stack-trace'] };
  const { location = null, checkpointId = null } = operation;
  return { kind: 'done', asked, location, checkpointId };
}
