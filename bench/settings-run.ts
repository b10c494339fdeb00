/**
 * All runs of all settings: one broker, per setting one topic that every run reads from its
 * beginning, and alternating runs, so that what else the machine does meets both sides.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from './comparison.ts';
import type { Engine } from './engine.ts';
import { measureRun, NO_FIGURES, type RunFigures } from './engine-run.ts';
import { buildFlink } from './flink-build.ts';
import { flinkEngine } from './flink-engine.ts';
import { type FlinkVariant, ONE_VALUE } from './flink-variants.ts';
import { dropTopic, type LoadedTopic, loadTopic, type Place, withPlace } from './place.ts';
import { printStep } from './report.ts';
import type { Setting } from './settings.ts';
import { triggerjobEngine } from './triggerjob-engine.ts';

export interface SettingsRun {
  settings: readonly Setting[];
  runs: number;
  checkpointIntervalMs: number;
  /** Ways to run Flink, of which the best is compared with; none: TriggerJob alone. */
  variants: readonly FlinkVariant[];
  /** Settings at one time: more than one where the figures mean nothing. */
  atOnce: number;
}

export async function runSettings(options: SettingsRun): Promise<Row[]> {
  const classPath = options.variants.length === 0 ? '' : await buildFlink();
  return await withPlace(async (place) => (await rowsOf(place, classPath, options)).flat());
}

async function rowsOf(place: Place, classPath: string, options: SettingsRun): Promise<Row[][]> {
  const rows: Row[][] = [];
  const waiting = [...options.settings.entries()];
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, setting] = next;
      const runs = new RunsOfSetting(setting, options, place, classPath);
      rows[index] = await runs.all().catch((error: unknown) => [failed(setting, error)]);
    }
  };
  await Promise.all(Array.from({ length: options.atOnce }, work));
  return rows;
}

/** What stops one setting must not cost the figures of the others. */
function failed({ key, title }: Setting, error: unknown): Row {
  const runs = [{ ...NO_FIGURES, wrong: String(error) }];
  return { key, title, engine: triggerjobEngine.name, role: 'triggerjob', runs };
}

interface Contender {
  engine: Engine;
  row: Row;
  topic: LoadedTopic | null;
  events: number;
}

class RunsOfSetting {
  readonly #setting: Setting;
  readonly #options: SettingsRun;
  readonly #place: Place;
  readonly #classPath: string;

  constructor(setting: Setting, options: SettingsRun, place: Place, classPath: string) {
    this.#setting = setting;
    this.#options = options;
    this.#place = place;
    this.#classPath = classPath;
  }

  async all(): Promise<Row[]> {
    const { variants, runs } = this.#options;
    const { events, oneValueEvents, killAtEventsPerSecond } = this.#setting;
    printStep(`${this.#setting.key}: ${this.#setting.title}`);
    // One that is killed has events written to its topic meanwhile: each run has its own.
    const shared =
      killAtEventsPerSecond === null ? await loadTopic(this.#place, this.#setting, events) : null;
    const short =
      variants.length > 0 && oneValueEvents !== null
        ? await loadTopic(this.#place, this.#setting, oneValueEvents)
        : null;
    const best = await this.#best(shared);
    const contenders: Contender[] = [];
    const { key, title } = this.#setting;
    const add = (role: Row['role'], engine: Engine, topic: LoadedTopic | null, of = events) => {
      const row: Row = { key, title, role, engine: engine.name, runs: [] };
      contenders.push({ engine, topic, events: of, row });
    };
    add('triggerjob', triggerjobEngine, shared);
    if (best !== null) add('tuned', best, shared);
    if (short !== null && oneValueEvents !== null) {
      add('one-value', flinkEngine(ONE_VALUE, this.#classPath), short, oneValueEvents);
    }
    for (let round = 0; round < runs; round++) {
      for (const { engine, row, topic, events } of contenders) {
        row.runs.push(await this.#run(engine, topic, events));
      }
    }
    for (const topic of [shared, short]) if (topic !== null) await dropTopic(this.#place, topic);
    return contenders.map(({ row }) => row);
  }

  /** The variant with the most events per CPU-second in one run each, which is not counted. */
  async #best(topic: LoadedTopic | null): Promise<Engine | null> {
    const { variants } = this.#options;
    const engines = variants.map((variant) => flinkEngine(variant, this.#classPath));
    const [first = null] = engines;
    if (engines.length < 2 || topic === null) return first;
    let best = { engine: first, perCpuSecond: 0 };
    for (const engine of engines) {
      const { eventsPerCpuSecond, wrong } = await this.#run(engine, topic, this.#setting.events);
      if (wrong !== null || !(eventsPerCpuSecond > best.perCpuSecond)) continue;
      best = { engine, perCpuSecond: eventsPerCpuSecond };
    }
    printStep(`  compared with ${best.engine?.name}`);
    return best.engine;
  }

  /** `events`: what lies in the topic after the fill. */
  async #run(engine: Engine, shared: LoadedTopic | null, events: number): Promise<RunFigures> {
    const { broker, service } = this.#place;
    const folder = mkdtempSync(join(this.#place.folder, 'run-'));
    const topic = shared ?? (await loadTopic(this.#place, this.#setting, 0));
    const figures = await measureRun(
      engine,
      {
        setting: { ...this.#setting, events },
        bootstrap: broker.bootstrap,
        topic: topic.name,
        service,
        folder,
        checkpointIntervalMs: this.#options.checkpointIntervalMs,
      },
      topic.loader,
    );
    if (shared === null) await dropTopic(this.#place, topic);
    rmSync(folder, { recursive: true, force: true });
    printStep(`  ${this.#setting.key}, ${engine.name}: ${inShort(figures)}`);
    return figures;
  }
}

function inShort(figures: RunFigures): string {
  if (figures.wrong !== null) return `WRONG: ${figures.wrong}`;
  const { eventsPerSecond, eventsPerCpuSecond, fillSeconds, startUpSeconds } = figures;
  const { caughtUpSeconds, checkpoints, dipPercent } = figures;
  const parts = [`up in ${startUpSeconds.toFixed(1)} s`, `filled in ${fillSeconds.toFixed(1)} s`];
  if (!Number.isNaN(caughtUpSeconds)) parts.push(`caught up in ${caughtUpSeconds.toFixed(1)} s`);
  if (!Number.isNaN(eventsPerSecond)) {
    parts.push(`${Math.round(eventsPerSecond)} events/s`);
    parts.push(`${Math.round(eventsPerCpuSecond)} per CPU-second`);
  }
  const dip = Number.isNaN(dipPercent) ? '' : `, ${dipPercent.toFixed(1)} % less while one ran`;
  return [...parts, `${checkpoints} checkpoints${dip}`, 'results right'].join(', ');
}
