/**
 * Which filter the tasks run, and which one the next barrier brings (P34). The stored script of the
 * restored checkpoint always runs first: replayed events were judged by it.
 */
import type { ScriptVersion } from '../rpc/messages.ts';

export class ScriptSwitch {
  #active: ScriptVersion;
  #wanted: ScriptVersion;
  /** Why the last change was refused; null = it was not. The old script stays. */
  refused: { fault: string; version: string | null } | null = null;

  constructor(wanted: ScriptVersion) {
    this.#active = wanted;
    this.#wanted = wanted;
  }

  /** What a deployment starts with; after `restored` the stored one. */
  get active(): ScriptVersion {
    return this.#active;
  }

  /** What the next trigger carries. */
  get wanted(): ScriptVersion {
    return this.#wanted;
  }

  want(script: ScriptVersion): void {
    this.#wanted = script;
    this.refused = null;
  }

  /** A checkpoint was restored, or completed: this one is in force from its barrier on. */
  inForce(script: ScriptVersion | null): void {
    if (script !== null) this.#active = script;
  }
}
