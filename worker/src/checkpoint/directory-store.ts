/**
 * An object store in a directory, also on a shared mount (P44). An object appears under its name
 * only when its bytes are durable: temporary file, fsync, link(), fsync of the directory, unlink of
 * the temporary file. Rejected: rename, because it overwrites, so that two leaders could both win
 * an index of the log; O_EXCL + write, because a crash in between leaves a torn record that holds
 * its index for ever.
 */
import { constants } from 'node:fs';
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Env } from '../runtime/env.ts';
import { TriggerJobError } from '../runtime/errors.ts';
import { probeCreateOnly } from './create-only-probe.ts';
import { checkName, checkPrefix, TEMPORARY } from './object-name.ts';
import type { ObjectStore, ReadPiece, StoredObject } from './object-store.ts';

/** A temporary file this old belongs to a process that died; no upload takes as long. */
const STALE_MS = 60 * 60 * 1000;
const WRITE_BYTES = 1024 * 1024;

/**
 * Opens (and makes) the directory. Throws STORE_NOT_CREATE_ONLY if a second create of a name does
 * not answer 'exists', e.g. where the mount has no hard links; STORE_UNUSABLE if it can't be
 * written.
 */
export async function openDirectoryStore(
  dir: string,
  env: Pick<Env, 'now' | 'id'>,
): Promise<ObjectStore> {
  const root = resolve(dir);
  const store = new DirectoryStore(root, env);
  try {
    await makeDirectory(join(root, TEMPORARY));
    await removeStale(root, env.now());
  } catch (cause) {
    throw new TriggerJobError('STORE_UNUSABLE', `${store.url} can't be used as a store`, { cause });
  }
  await probeCreateOnly(store, env.id());
  return store;
}

/** Only to read or delete: nothing is made or probed, so a read-only mount and an absent one do. */
export function readDirectoryStore(dir: string, env: Pick<Env, 'id'>): ObjectStore {
  return new DirectoryStore(resolve(dir), env);
}

/** The folders that a store leaves when all of its objects are deleted; never a file. */
export async function removeEmptyFolders(dir: string): Promise<void> {
  const inside = await readdir(dir).catch(() => []);
  for (const name of [...inside, '.']) await rmdir(join(dir, name)).catch(() => {});
}

class DirectoryStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  readonly #env: Pick<Env, 'id'>;

  constructor(root: string, env: Pick<Env, 'id'>) {
    this.url = pathToFileURL(root).href;
    this.#root = root;
    this.#env = env;
  }

  async put(name: string, content: Buffer): Promise<void> {
    const path = this.#path(name);
    if ((await this.#publish(path, content.length, fromBuffer(content))) === 'created') return;
    // Names are unique per upload (P46), so what is there is this upload's own first try.
    const found = await readFile(path);
    if (found.equals(content)) return;
    throw new TriggerJobError('STORE_NAME_TAKEN', `${name} is in ${this.url} with other content`);
  }

  async replace(name: string, content: Buffer): Promise<void> {
    const path = this.#path(name);
    const temporary = join(this.#root, TEMPORARY, this.#env.id());
    try {
      await writeFile(temporary, content, { flag: 'wx' });
      await makeDirectory(dirname(path));
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async putPieces(name: string, bytes: number, read: ReadPiece): Promise<void> {
    if ((await this.#publish(this.#path(name), bytes, read)) === 'created') return;
    throw new TriggerJobError('STORE_NAME_TAKEN', `${name} is in ${this.url} already`);
  }

  async create(name: string, content: Buffer): Promise<'created' | 'exists'> {
    return this.#publish(this.#path(name), content.length, fromBuffer(content));
  }

  async get(name: string): Promise<Buffer | null> {
    // In one piece: `readFile` has 130 turns of the event loop for 64 MiB, and a restore waited for
    // each of them.
    const file = await open(this.#path(name), 'r').catch((fault: unknown) => {
      if (isCode(fault, 'ENOENT')) return null;
      throw fault;
    });
    if (file === null) return null;
    try {
      return await readPiece(file, 0, (await file.stat()).size);
    } finally {
      await file.close();
    }
  }

  async getRange(name: string, offset: number, length: number): Promise<Buffer> {
    const file = await open(this.#path(name), 'r');
    try {
      return await readPiece(file, offset, length);
    } finally {
      await file.close();
    }
  }

  async list(prefix: string): Promise<StoredObject[]> {
    checkPrefix(prefix);
    const under = prefix.includes('/') ? prefix.slice(0, prefix.lastIndexOf('/')) : '';
    const found: StoredObject[] = [];
    await this.#walk(under, prefix, found);
    return found;
  }

  async delete(names: readonly string[]): Promise<void> {
    const parents = new Set<string>();
    for (const name of names) {
      const path = this.#path(name);
      await rm(path, { force: true });
      parents.add(dirname(path));
    }
    for (const parent of parents) await syncDirectory(parent, 'may be absent');
  }

  #path(name: string): string {
    checkName(name);
    return join(this.#root, name);
  }

  async #publish(path: string, bytes: number, read: ReadPiece): Promise<'created' | 'exists'> {
    const temporary = join(this.#root, TEMPORARY, this.#env.id());
    try {
      await writeDurably(temporary, bytes, read);
      await makeDirectory(dirname(path));
      try {
        await link(temporary, path);
      } catch (fault) {
        if (!isCode(fault, 'EEXIST')) throw fault;
        // The one who made it may have died before its sync: what is told to exist must stay.
        await syncDirectory(dirname(path));
        return 'exists';
      }
      await syncDirectory(dirname(path));
      return 'created';
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async #walk(folder: string, prefix: string, found: StoredObject[]): Promise<void> {
    let entries: Awaited<ReturnType<typeof readFolder>>;
    try {
      entries = await readFolder(join(this.#root, folder));
    } catch (fault) {
      if (isCode(fault, 'ENOENT')) return;
      throw fault;
    }
    for (const entry of entries) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (name === TEMPORARY) continue;
      if (entry.isDirectory()) {
        if (name.startsWith(prefix) || prefix.startsWith(name)) {
          await this.#walk(name, prefix, found);
        }
      } else if (name.startsWith(prefix)) {
        const facts = await statOrNull(join(this.#root, name));
        if (facts !== null) found.push({ name, bytes: facts.size, modifiedAt: facts.mtimeMs });
      }
    }
  }
}

function readFolder(path: string) {
  return readdir(path, { withFileTypes: true });
}

async function statOrNull(path: string): Promise<{ size: number; mtimeMs: number } | null> {
  try {
    return await stat(path);
  } catch (fault) {
    if (isCode(fault, 'ENOENT')) return null; // deleted since it was listed
    throw fault;
  }
}

function fromBuffer(content: Buffer): ReadPiece {
  return async (offset, length) => content.subarray(offset, offset + length);
}

async function writeDurably(path: string, bytes: number, read: ReadPiece): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
  try {
    for (let at = 0; at < bytes; at += WRITE_BYTES) {
      await writeAll(file, await read(at, Math.min(WRITE_BYTES, bytes - at)));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, piece: Buffer): Promise<void> {
  for (let at = 0; at < piece.length; ) {
    at += (await file.write(piece, at, piece.length - at)).bytesWritten;
  }
}

/**
 * Makes missing folders durable too: an object in a folder that a power cut removes is no object.
 */
async function makeDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  for (let made = path; ; made = dirname(made)) {
    await syncDirectory(dirname(made), 'may be absent');
    if (made === first || dirname(made) === made) return;
  }
}

async function syncDirectory(path: string, absence: 'is a fault' | 'may be absent' = 'is a fault') {
  let folder: FileHandle;
  try {
    folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (fault) {
    if (absence === 'may be absent' && isCode(fault, 'ENOENT')) return;
    throw fault;
  }
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function removeStale(root: string, nowMs: number): Promise<void> {
  for (const entry of await readFolder(join(root, TEMPORARY))) {
    const path = join(root, TEMPORARY, entry.name);
    const facts = await statOrNull(path);
    if (facts !== null && nowMs - facts.mtimeMs > STALE_MS) await rm(path, { force: true });
  }
}

function isCode(fault: unknown, code: string): boolean {
  return fault instanceof Error && 'code' in fault && fault.code === code;
}

/** Shorter where the file ends. */
async function readPiece(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const out = Buffer.allocUnsafeSlow(length);
  let read = 0;
  while (read < length) {
    const { bytesRead } = await file.read(out, read, length - read, offset + read);
    if (bytesRead === 0) break;
    read += bytesRead;
  }
  return out.subarray(0, read);
}
