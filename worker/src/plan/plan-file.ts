/**
 * Loads a TriggerJob from a YAML file: every fault with its line and column, the filter's script
 * from beside it. The only file of plan/ that reads a disk or needs the yaml package.
 */
import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
} from 'yaml';
import type { ScriptText } from './build.ts';
import type { Fault } from './fault.ts';
import type { JobPlan } from './job-plan.ts';
import { resolvePath } from './locations.ts';
import { type ResolveOptions, resolveJob } from './resolve.ts';
import type { CompleteTriggerJob, TriggerJob } from './schema.ts';
import { OBJECT_KEY, OBJECT_NAME } from './schema-source.ts';
import { configPath } from './site.ts';
import { isFields } from './validate.ts';

/**
 * A fault and where it is: counted from 1. A missing field is at its nearest parent that exists.
 */
export interface LocatedFault extends Fault {
  line: number;
  column: number;
}

export type LoadedPlan =
  /** `job`: as the plan was made of it, with Flink's keys taken over and defaults filled in. */
  | { plan: JobPlan; doc: TriggerJob; job: CompleteTriggerJob; faults: [] }
  | { plan: null; doc: unknown; faults: LocatedFault[] };

export interface LoadOptions {
  /**
   * Directory below which the job keeps what its file gives no directory; default `.triggerjob`
   * in the working directory. Null reads the file as a cluster does: it must name its directories
   * itself.
   */
  stateDir?: string | null;
}

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_SCRIPT_BYTES = 65_536;

/** Loads the one TriggerJob of a file. Never rejects for what the file holds or for its absence. */
export async function loadPlanFile(path: string, options: LoadOptions = {}): Promise<LoadedPlan> {
  const text = await readBounded(path, MAX_FILE_BYTES);
  if (typeof text !== 'string') return refuse(text.problem);
  const parsed = parseFile(text);
  if ('faults' in parsed) return { plan: null, doc: null, faults: parsed.faults };
  const { document, content, lines } = parsed;
  const baseDir = dirname(resolve(path));
  const script = await readScript(content, parsed.others, baseDir);
  const settings: ResolveOptions = script === null ? {} : { script };
  if (options.stateDir !== null) {
    settings.local = { baseDir, stateDir: resolve(options.stateDir ?? '.triggerjob') };
  }
  const resolution = resolveJob(content, settings);
  const faults = [...parsed.duplicates];
  if ('faults' in resolution) {
    for (const fault of resolution.faults) {
      faults.push({ ...fault, ...positionOf(lines, offsetOf(document, fault.path)) });
    }
  } else if (faults.length === 0) {
    const { plan, job } = resolution;
    return { plan, doc: content as TriggerJob, job, faults: [] };
  }
  faults.sort((a, b) => a.line - b.line || a.column - b.column);
  return { plan: null, doc: content, faults };
}

function refuse(message: string): LoadedPlan {
  return { plan: null, doc: null, faults: [{ path: '', message, line: 1, column: 1 }] };
}

async function readBounded(path: string, maxBytes: number): Promise<string | { problem: string }> {
  try {
    const { size } = await stat(path);
    if (size <= maxBytes) return await readFile(path, 'utf8');
    return { problem: `${path} has ${size} bytes, at most ${maxBytes}: is it the right file?` };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { problem: `${path} can't be read: ${reason}` };
  }
}

interface ParsedFile {
  document: Document.Parsed;
  content: unknown;
  /** The file's other documents, among which a ConfigMap may be. */
  others: unknown[];
  lines: LineCounter;
  /** The only syntax faults after which the content can still be judged. */
  duplicates: LocatedFault[];
}

function parseFile(text: string): ParsedFile | { faults: LocatedFault[] } {
  const lines = new LineCounter();
  const options = { lineCounter: lines, prettyErrors: false, merge: true, stringKeys: true };
  const documents = [...parseAllDocuments(text, options)];
  const problems = documents.flatMap(({ errors, warnings }) => [...errors, ...warnings]);
  const syntax = problems.map(({ code, message, pos }) => {
    const said = code === 'DUPLICATE_KEY' ? 'this key is given twice: remove one' : message;
    return { path: '', message: `YAML: ${said}`, ...positionOf(lines, pos[0]) };
  });
  if (problems.some(({ code }) => code !== 'DUPLICATE_KEY')) return { faults: syntax };
  const fault = (message: string, document?: Document.Parsed) => ({
    faults: [...syntax, { path: '', message, ...positionOf(lines, document?.range[0] ?? 0) }],
  });
  const contents: [Document.Parsed, unknown][] = [];
  for (const document of documents) {
    const content = plainContent(document);
    if ('problem' in content) return fault(`YAML: ${content.problem}`, document);
    if (content.value !== null) contents.push([document, content.value]);
  }
  const kindOf = (value: unknown) => (isFields(value) ? value['kind'] : undefined);
  const jobs = contents.filter(([, value]) => kindOf(value) === 'TriggerJob');
  const [job, second] = jobs.length > 0 ? jobs : contents.slice(0, 1);
  if (!job) return fault('the file is empty: write a TriggerJob, see config/samples/');
  if (second) return fault('a second TriggerJob: one file drives one job, move it out', second[0]);
  const others = contents.filter((entry) => entry !== job).map(([, value]) => value);
  return { document: job[0], content: job[1], others, lines, duplicates: syntax };
}

/** The document as JSON would hold it: an anchor inside of itself has no such form. */
function plainContent(document: Document.Parsed): { value: unknown } | { problem: string } {
  try {
    const value: unknown = document.toJS();
    JSON.stringify(value);
    return { value };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

function positionOf(lines: LineCounter, offset: number): { line: number; column: number } {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

/** Where the key of `path` stands, or of its nearest parent. A key may hold dots itself. */
function offsetOf(document: Document.Parsed, path: string): number {
  let offset = document.contents?.range[0] ?? 0;
  let node: unknown = document.contents;
  let rest = path;
  for (;;) {
    if (isAlias(node)) node = node.resolve(document);
    const step = isMap(node)
      ? mapStep(node.items, rest)
      : isSeq(node)
        ? listStep(node, rest)
        : null;
    if (step === null) return offset;
    offset = step.offset ?? offset;
    node = step.value;
    rest = step.rest;
  }
}

interface Step {
  offset: number | undefined;
  value: unknown;
  rest: string;
}

/** Takes the longest key with which the path begins. */
function mapStep(pairs: readonly { key: unknown; value: unknown }[], path: string): Step | null {
  let found: Step | null = null;
  for (const { key, value } of pairs) {
    if (!isScalar(key)) continue;
    const name = String(key.value);
    const rest = path.slice(name.length);
    if (!path.startsWith(name) || !/^($|[.[])/.test(rest)) continue;
    if (found !== null && rest.length >= found.rest.length) continue;
    found = { offset: key.range?.[0], value, rest: rest.replace(/^[.]/, '') };
  }
  return found;
}

function listStep(list: { items: unknown[] }, path: string): Step | null {
  const match = /^\[(\d+)\][.]?(.*)$/.exec(path);
  if (match === null) return null;
  const value = list.items[Number(match[1])];
  return { offset: isScalar(value) ? value.range?.[0] : undefined, value, rest: match[2] ?? '' };
}

/** The text of scriptFile or scriptFrom; null when the filter has neither in a usable form. */
async function readScript(
  content: unknown,
  others: unknown[],
  baseDir: string,
): Promise<ScriptText | { problem: string } | null> {
  const filter = fieldOf(fieldOf(content, 'spec'), 'filter');
  const file = fieldOf(filter, 'scriptFile');
  if (typeof file === 'string' && file !== '') {
    const path = resolvePath(file, baseDir) ?? file;
    return asScript(await readBounded(path, MAX_SCRIPT_BYTES), file);
  }
  const ref = fieldOf(fieldOf(filter, 'scriptFrom'), 'configMapKeyRef');
  const name = fieldOf(ref, 'name');
  const key = fieldOf(ref, 'key');
  if (typeof name !== 'string' || typeof key !== 'string') return null;
  if (!new RegExp(OBJECT_NAME).test(name) || !new RegExp(OBJECT_KEY).test(key)) return null;
  const map = others.find(
    (other) =>
      fieldOf(other, 'kind') === 'ConfigMap' &&
      fieldOf(fieldOf(other, 'metadata'), 'name') === name,
  );
  if (map !== undefined) {
    const text = fieldOf(fieldOf(map, 'data'), key);
    if (typeof text === 'string') return { text, origin: `ConfigMap ${name}, key ${key}` };
    return { problem: `names key ${key}, which data of ConfigMap ${name} does not have: add it` };
  }
  const path = configPath(name, key);
  const found = asScript(await readBounded(path, MAX_SCRIPT_BYTES), path);
  if (!('problem' in found)) return found;
  const fix = `put ConfigMap ${name} with key ${key} into this file, or the script at ${path}`;
  return { problem: `was not found: ${fix}` };
}

function asScript(
  read: string | { problem: string },
  origin: string,
): ScriptText | { problem: string } {
  if (typeof read === 'string') return { text: read, origin };
  return { problem: `was not read: ${read.problem}` };
}

const fieldOf = (value: unknown, key: string): unknown =>
  isFields(value) && Object.hasOwn(value, key) ? value[key] : undefined;
