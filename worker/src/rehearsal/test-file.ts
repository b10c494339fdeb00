/**
 * The tests of a job, `<job>.tests.yaml`: steps of one timeline each, with what is expected. Every
 * fault is reported with its line and column, a mistyped name with the one it is near to.
 *
 * A file of its own, not a second document of the job's: `kubectl apply -f job.yaml` sends every
 * document to the server, which knows no such kind and fails.
 */
import { isNode, LineCounter, parseDocument } from 'yaml';
import { nearest } from '../plan/did-you-mean.ts';
import { DURATION_FORM, parseDuration } from '../plan/duration.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../runtime/json.ts';
import type { Expectation } from './expectation.ts';
import type { ProfileSetting, WebhookSetting } from './stand-ins.ts';

export type Action =
  /** The record's bytes, as they are. */
  | { do: 'event'; value: Buffer }
  | { do: 'wait'; ms: number }
  | { do: 'profiles'; profiles: ReadonlyMap<string, ProfileSetting> }
  | { do: 'webhook'; setting: WebhookSetting }
  | { do: 'checkpoint' }
  | { do: 'crash' }
  | { do: 'expect'; expected: Expectation };

export type TestStep = Action & { line: number };

export interface JobTest {
  name: string;
  line: number;
  steps: readonly TestStep[];
}

export interface TestFile {
  /** As the file names it; null: the file of the same name. */
  job: string | null;
  tests: readonly JobTest[];
}

export interface TestFileFault {
  line: number;
  column: number;
  message: string;
}

type Path = readonly (string | number)[];

const FILE_FIELDS = ['job', 'profiles', 'tests'];
const TEST_FIELDS = ['name', 'profiles', 'events', 'steps', 'expect'];
const STEP_NAMES = ['event', 'raw', 'wait', 'profiles', 'webhook', 'checkpoint', 'crash', 'expect'];
const EXPECT_FIELDS = ['deliveries', 'deadLetters', 'state', 'repeats'];
const PROFILE_FIELDS = ['profile', 'visit', 'history'];
const ABSENT = 'absent';
/** Virtual timers end there (Node's own limit). */
const MAX_WAIT_MS = 366 * 86_400_000;

export function parseTestFile(
  text: string,
): { file: TestFile; faults: [] } | { file: null; faults: TestFileFault[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const syntax = document.errors.map(({ message, pos }) => ({
    ...place(pos[0]),
    message: `YAML: ${message}`,
  }));
  if (syntax.length > 0) return { file: null, faults: syntax };
  const reader = new TestFileReader((path) => {
    for (let length = path.length; length >= 0; length--) {
      const node = document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return place(node.range[0]);
    }
    return { line: 1, column: 1 };
  });
  const file = reader.file(document.toJS() as JsonValue);
  return reader.faults.length > 0 ? { file: null, faults: reader.faults } : { file, faults: [] };
}

class TestFileReader {
  readonly faults: TestFileFault[] = [];
  readonly #place: (path: Path) => { line: number; column: number };

  constructor(place: (path: Path) => { line: number; column: number }) {
    this.#place = place;
  }

  file(content: JsonValue): TestFile {
    const file = this.#fields(content, [], FILE_FIELDS);
    const { job = null, tests = [] } = file;
    if (job !== null && typeof job !== 'string') {
      this.#fault(['job'], 'job must be the path of a TriggerJob, from this file on');
    }
    const shared = this.#profilesStep(file, []);
    const list = this.#list(tests, ['tests']);
    if (list.length === 0) this.#fault(['tests'], 'tests is empty: nothing would be tested');
    return {
      job: typeof job === 'string' ? job : null,
      tests: list.map((test, at) => this.#test(test, ['tests', at], shared)),
    };
  }

  #test(content: JsonValue, path: Path, shared: readonly TestStep[]): JobTest {
    const test = this.#fields(content, path, TEST_FIELDS);
    const { name, events = [], steps = [], expect } = test;
    if (typeof name !== 'string' || name === '') {
      this.#fault(path, 'a test needs a name: what the job should do');
    }
    if (test['events'] !== undefined && test['steps'] !== undefined) {
      this.#fault([...path, 'events'], 'events and steps: write them as event steps');
    }
    const all = [...shared, ...this.#profilesStep(test, path)];
    const eventsPath = [...path, 'events'];
    for (const [at, event] of this.#list(events, eventsPath).entries()) {
      all.push(this.#step({ event }, [...eventsPath, at], true));
    }
    for (const [at, step] of this.#list(steps, [...path, 'steps']).entries()) {
      all.push(this.#step(step, [...path, 'steps', at], false));
    }
    if (expect !== undefined) {
      all.push(this.#action('expect', expect, [...path, 'expect']));
    }
    if (!all.some((step) => step.do === 'expect')) {
      this.#fault(path, 'expects nothing: it could not fail; add expect');
    }
    return { name: String(name), line: this.#place(path).line, steps: all };
  }

  #profilesStep({ profiles }: JsonObject, path: Path): TestStep[] {
    return profiles === undefined
      ? []
      : [this.#action('profiles', profiles, [...path, 'profiles'])];
  }

  /** `- checkpoint` or `- event: {...}`. `isEvent`: an element of `events`. */
  #step(content: JsonValue, path: Path, isEvent: boolean): TestStep {
    const step = typeof content === 'string' ? { [content]: null } : content;
    const known = isJsonObject(step) ? Object.entries(step) : [];
    const [first, second] = known;
    if (first === undefined || second !== undefined) {
      this.#fault(path, `a step is one of ${STEP_NAMES.join(', ')}`);
      return { do: 'crash', line: 0 };
    }
    const [name, value] = first;
    return this.#action(
      name,
      value,
      isEvent || typeof content === 'string' ? path : [...path, name],
    );
  }

  #action(name: string, value: JsonValue, path: Path): TestStep {
    return { ...this.#actionOf(name, value, path), line: this.#place(path).line };
  }

  #actionOf(name: string, value: JsonValue, path: Path): Action {
    switch (name) {
      case 'event':
        if (!isJsonObject(value)) this.#fault(path, 'an event is an object; see raw for any text');
        return { do: 'event', value: Buffer.from(JSON.stringify(value)) };
      case 'raw':
        if (typeof value !== 'string') this.#fault(path, 'raw is the text of a record');
        return { do: 'event', value: Buffer.from(String(value)) };
      case 'wait':
        return { do: 'wait', ms: this.#duration(value, path) };
      case 'profiles':
        return { do: 'profiles', profiles: this.#profiles(value, path) };
      case 'webhook':
        return { do: 'webhook', setting: this.#webhook(value, path) };
      case 'expect':
        return { do: 'expect', expected: this.#expectation(value, path) };
      case 'checkpoint':
      case 'crash':
        return { do: name };
      default:
        this.#unknown(name, path, STEP_NAMES);
        return { do: 'crash' };
    }
  }

  #duration(value: JsonValue, path: Path): number {
    const ms = typeof value === 'string' || value === 0 ? parseDuration(String(value)) : null;
    if (ms !== null && ms <= MAX_WAIT_MS) return ms;
    this.#fault(path, `${JSON.stringify(value)} is not a duration: write ${DURATION_FORM}`);
    return 0;
  }

  #webhook(value: JsonValue, path: Path): WebhookSetting {
    if (value === 'down' || value === 'no-reply' || isStatus(value)) return value;
    this.#fault(path, 'webhook is an HTTP status, down (refused) or no-reply (arrives, no answer)');
    return 200;
  }

  #profiles(value: JsonValue, path: Path): Map<string, ProfileSetting> {
    const profiles = new Map<string, ProfileSetting>();
    for (const [user, setting] of Object.entries(this.#fields(value, path, null))) {
      if (isStatus(setting)) {
        profiles.set(user, setting);
        continue;
      }
      const at = [...path, user];
      if (!isJsonObject(setting)) {
        this.#fault(at, 'is {profile, visit, history} or the HTTP status of the answer');
        continue;
      }
      const { profile = {}, visit = {}, history = [] } = this.#fields(setting, at, PROFILE_FIELDS);
      profiles.set(user, {
        profile: this.#fields(profile, [...at, 'profile'], null),
        visit: this.#fields(visit, [...at, 'visit'], null),
        history: this.#objects(history, [...at, 'history']),
      });
    }
    return profiles;
  }

  #expectation(value: JsonValue, path: Path): Expectation {
    const { deliveries, deadLetters, state, repeats } = this.#fields(value, path, EXPECT_FIELDS);
    const expected: Expectation = {};
    if (deliveries !== undefined) {
      expected.deliveries = this.#objects(deliveries, [...path, 'deliveries']);
    }
    if (deadLetters !== undefined) {
      expected.deadLetters = this.#objects(deadLetters, [...path, 'deadLetters']);
    }
    if (state !== undefined) {
      const users = Object.entries(this.#fields(state, [...path, 'state'], null));
      expected.state = Object.fromEntries(
        users.map(([user, one]) => {
          if (one === ABSENT) return [user, null];
          return [user, this.#fields(one, [...path, 'state', user], PROFILE_FIELDS)];
        }),
      );
    }
    if (typeof repeats === 'number') expected.repeats = repeats;
    else if (repeats !== undefined) this.#fault([...path, 'repeats'], 'repeats is a number');
    return expected;
  }

  #objects(value: JsonValue, path: Path): JsonObject[] {
    return this.#list(value, path).map((one, at) => this.#fields(one, [...path, at], null));
  }

  #list(value: JsonValue, path: Path): readonly JsonValue[] {
    if (Array.isArray(value)) return value;
    this.#fault(path, `${String(path.at(-1))} is a list`);
    return [];
  }

  /** `known` null: any field may be there. */
  #fields(value: JsonValue, path: Path, known: readonly string[] | null): JsonObject {
    if (!isJsonObject(value)) {
      this.#fault(path, `${path.length === 0 ? 'the file' : path.join('.')} must be an object`);
      return {};
    }
    for (const name of Object.keys(value)) {
      if (known !== null && !known.includes(name)) this.#unknown(name, [...path, name], known);
    }
    return value;
  }

  #unknown(name: string, path: Path, known: readonly string[]): void {
    const near = nearest(name, known);
    const hint = near === null ? `one of ${known.join(', ')}` : `did you mean ${near}?`;
    this.#fault(path, `${name} is not known here: ${hint}`);
  }

  #fault(path: Path, message: string): void {
    this.faults.push({ ...this.#place(path), message });
  }
}

const isStatus = (value: JsonValue): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 100 && value <= 599;
