/** Rules and resolution of directories and files. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { CompleteSpec, LooseSpec } from './derived.ts';
import type { Faults } from './fault.ts';
import { directoryUri, locationUri, resolvePath } from './locations.ts';
import type { RuleInput } from './rules.ts';
import type { Site } from './site.ts';

/**
 * Where it is, and null when that can't be said: nothing is given, or it is relative in a
 * cluster.
 */
function checkpointUri(spec: LooseSpec, site: Site): string | null {
  const directory = spec.checkpointing?.directory;
  if (directory !== undefined) return directoryUri(directory, site.baseDir);
  if (site.stateDir === null) return null;
  return directoryUri(pathToFileURL(join(site.stateDir, 'checkpoints')).href, null);
}

/** `_` is no letter of a namespace, so the default never meets another job's folder. */
function savepointUri(spec: LooseSpec, checkpoints: string, site: Site): string | null {
  const directory = spec.savepoints?.directory;
  if (directory !== undefined) return directoryUri(directory, site.baseDir);
  return `${checkpoints}_savepoints/`;
}

export function locationRules(input: RuleInput, faults: Faults): void {
  const { spec, site } = input;
  const checkpoints = 'spec.checkpointing.directory';
  const given = spec.checkpointing?.directory;
  if (given === undefined && site.stateDir === null && !faults.isBroken(checkpoints)) {
    faults.add(
      checkpoints,
      'is missing: name a store that outlives the pods, for example s3://flink-checkpoints/',
    );
  }
  const files: [string, string | undefined][] = [
    [checkpoints, given],
    ['spec.savepoints.directory', spec.savepoints?.directory],
    ['spec.restore.savepoint', spec.restore?.savepoint || undefined],
  ];
  for (const [path, text] of files) {
    if (text === undefined || locationUri(text, site.baseDir) !== null) continue;
    faults.add(path, `is ${text}: write an absolute path, or s3://bucket/dir/`);
  }
  pathRules(input, faults);
  overlapRules(input, faults);
}

function pathRules({ spec, site }: RuleInput, faults: Faults): void {
  const paths: [string, string | undefined][] = [
    ['spec.deadLetter.file.path', spec.deadLetter?.file?.path],
    ['spec.action.webhook.signingSecretFile', spec.action?.webhook?.signingSecretFile],
    ['spec.taskManager.localState.directory', spec.taskManager?.localState?.directory],
  ];
  const seen = new Set<string>();
  for (const [index, file] of (spec.source?.file?.paths ?? []).entries()) {
    const path = `spec.source.file.paths[${index}]`;
    paths.push([path, file]);
    const absolute = resolvePath(file, site.baseDir) ?? file;
    if (seen.has(absolute)) faults.add(path, `is ${file}, which is listed before: remove it`);
    seen.add(absolute);
  }
  for (const [path, file] of paths) {
    if (file === undefined || resolvePath(file, site.baseDir) !== null) continue;
    faults.add(path, `is ${file}: write an absolute path`);
  }
}

/** Garbage collection lists the job's folder and would find savepoints in it unreferenced (P47). */
function overlapRules({ spec, name, namespace, site }: RuleInput, faults: Faults): void {
  const path = 'spec.savepoints.directory';
  const checkpoints = checkpointUri(spec, site);
  if (checkpoints === null || spec.savepoints?.directory === undefined) return;
  const savepoints = savepointUri(spec, checkpoints, site);
  const own = `${checkpoints}${namespace}/${name}/`;
  if (savepoints === null) return;
  if (savepoints !== checkpoints && !savepoints.startsWith(own)) return;
  const other = faults.nameOf('spec.checkpointing.directory');
  faults.add(path, `is ${savepoints}, where ${other} keeps checkpoints: name another directory`);
}

const DEFAULT_LOCAL_STATE = '/data/rocksdb';

/** Of a spec without faults. */
export function locationsOf(spec: CompleteSpec, site: Site) {
  const directory = checkpointUri(spec, site) ?? '';
  const local = spec.taskManager.localState.directory;
  const localDefault =
    site.stateDir === null ? DEFAULT_LOCAL_STATE : join(site.stateDir, 'rocksdb');
  const { savepoint } = spec.restore;
  return {
    directory,
    savepointDirectory: savepointUri(spec, directory, site) ?? '',
    restoreSavepoint: savepoint === '' ? null : locationUri(savepoint, site.baseDir),
    localStateDir: local === undefined ? localDefault : (resolvePath(local, site.baseDir) ?? local),
  };
}
