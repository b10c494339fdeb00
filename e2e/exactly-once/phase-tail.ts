/**
 * Follows the JobManager's log for phase events, closely enough to act within one phase's delay.
 */
import { open } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { PHASES, type Phase } from './history.ts';

export interface PhaseEvent {
  phase: Phase;
  checkpointId: number;
  /** When the JobManager wrote it, if the line says so; else when it was read here. */
  at: number;
}

/** The JobManager waits 150 ms at each phase. */
const POLL_MS = 5;
const CHUNK_BYTES = 64 * 1024;

function phaseEvent(line: string): PhaseEvent | null {
  if (!line.includes('"phase"')) return null;
  try {
    const { phase, checkpointId, time } = JSON.parse(line) as Record<string, unknown>;
    if (!PHASES.includes(phase as Phase)) return null;
    const at = typeof time === 'number' ? time : Date.now();
    return { phase: phase as Phase, checkpointId: Number(checkpointId), at };
  } catch {
    return null;
  }
}

/**
 * Resolves with the next event of `phase` written after this call; null when `signal` is aborted.
 */
export async function nextPhase(
  logFile: string,
  phase: Phase,
  signal: AbortSignal,
): Promise<PhaseEvent | null> {
  const file = await open(logFile, 'r');
  try {
    let { size: position } = await file.stat();
    let rest = '';
    const buffer = Buffer.alloc(CHUNK_BYTES);
    while (!signal.aborted) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, position);
      position += bytesRead;
      const lines = (rest + buffer.toString('utf8', 0, bytesRead)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const event = phaseEvent(line);
        if (event?.phase === phase) return event;
      }
      if (bytesRead === 0) await wait(POLL_MS);
    }
    return null;
  } finally {
    await file.close();
  }
}
