/** What is done to a cluster from outside in the course of a run. */
import type { Service } from './model-services.ts';

export type Role = 'jobmanager' | 'taskmanager';

export type Action =
  | { do: 'crash'; role: Role; silent: boolean }
  /** Of every slot, or of one. */
  | { do: 'outage'; service: Service; ms: number; subtask?: number }
  | { do: 'rescale'; parallelism: number; graceful: boolean }
  /** By the JobManager's control, while it runs. */
  | { do: 'ask'; parallelism: number }
  /** A TaskManager dies, and comes back only after `ms`. */
  | { do: 'stay away'; ms: number; silent: boolean }
  | { do: 'script'; version: string }
  /** A second leader, while the first one lives on. */
  | { do: 'twin' }
  | { do: 'checkpoint' }
  /** `stop`: the job ends with it, and is started again. */
  | { do: 'savepoint'; stop: boolean; drain: boolean }
  /** The leader or a TaskManager stands still, and is woken. */
  | { do: 'freeze'; role: Role; ms: number }
  /** The leader leaves in order. */
  | { do: 'release' }
  /** One way is cut, the other is open. `role` is who can't be heard. */
  | { do: 'cut rpc'; role: Role; lost: boolean; ms: number }
  | { do: 'cut shuffle'; lost: boolean; ms: number }
  /** Of the leader or a TaskManager: its requests, or the replies. */
  | { do: 'cut store'; role: Role; way: 'requests' | 'replies'; lost: boolean; ms: number }
  /** The wall clock of one process. */
  | { do: 'jump'; role: Role; ms: number };

/** For traces and hit counts. */
export function describe(action: Action): string {
  switch (action.do) {
    case 'crash':
      return `${action.silent ? 'silent crash' : 'crash'} of ${action.role} at any time`;
    case 'outage':
      return `outage of ${action.service}`;
    case 'rescale':
      return `rescale, ${action.graceful ? 'after a final checkpoint' : 'after a crash'}`;
    case 'ask':
      return 'rescale asked';
    case 'stay away':
      return 'a taskmanager stays away';
    case 'script':
      return 'script changed';
    case 'twin':
      return 'second leader';
    case 'checkpoint':
      return 'checkpoint asked for';
    case 'savepoint':
      return action.stop ? 'stop with a savepoint' : 'savepoint asked for';
    case 'freeze':
      return `${action.role} frozen`;
    case 'release':
      return 'leader told to leave';
    case 'cut rpc':
      return `one-way cut from ${action.role}, ${howOf(action)}`;
    case 'cut shuffle':
      return `one-way cut of a shuffle connection, ${howOf(action)}`;
    case 'cut store':
      return `one-way cut of a ${action.role} from the store, ${action.way} ${howOf(action)}`;
    case 'jump':
      return `clock of a ${action.role} jumps ${action.ms < 0 ? 'back' : 'forward'}`;
  }
}

const howOf = ({ lost }: { lost: boolean }): string => (lost ? 'lost' : 'held');
