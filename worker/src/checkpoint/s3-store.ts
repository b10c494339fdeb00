/**
 * An object store in a bucket of S3, or of whatever speaks it and keeps its promises: reads and
 * lists see what was written before, and `If-None-Match: *` creates once. Names, uploads and
 * answers are S3's here; deadlines and retries are s3-request.ts's, the way up is s3-upload.ts's.
 */
import type { Readable } from 'node:stream';
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { S3Plan } from '../plan/job-plan.ts';
import type { Env } from '../runtime/env.ts';
import { isRetryable, TriggerJobError } from '../runtime/errors.ts';
import { probeCreateOnly } from './create-only-probe.ts';
import { checkName, checkPrefix } from './object-name.ts';
import type { ObjectStore, ReadPiece, StoredObject } from './object-store.ts';
import { makeS3Client } from './s3-client.ts';
import {
  type Attempt,
  isAnswer,
  isTransientCode,
  S3_LIMITS,
  type S3Limits,
  S3Requests,
  transient,
} from './s3-request.ts';
import { PART_LIMITS, type PartLimits, S3Uploads, type UploadTarget } from './s3-upload.ts';

/** S3's own limit of one DeleteObjects. */
const DELETE_BATCH = 1000;
/** A wrong endpoint, bucket or key must be reported while someone still looks. */
const OPENING = { attemptMs: 5_000, totalMs: 10_000 };

export interface S3StoreOptions {
  s3: S3Plan;
  /** Whether the caller relies on `create`, so that the store must prove it (P44). */
  creates: boolean;
  limits?: S3Limits & PartLimits;
}

/**
 * `url`: `s3://bucket/prefix`. Throws STORE_UNUSABLE if bucket or endpoint can't be used, and
 * STORE_NOT_CREATE_ONLY if a second create of a name does not answer 'exists'.
 */
export async function openS3Store(
  url: string,
  env: Env,
  options: S3StoreOptions,
): Promise<ObjectStore> {
  const limits = options.limits ?? { ...S3_LIMITS, ...PART_LIMITS };
  const place = placeOf(url);
  const client = makeS3Client(options.s3);
  const attemptMs = Math.min(limits.attemptMs, OPENING.attemptMs);
  const totalMs = Math.min(limits.totalMs, OPENING.totalMs);
  const opening = { ...limits, attemptMs, totalMs };
  const probed = new S3Store(client, place, env, opening);
  try {
    await probed.touch();
    if (options.creates) await probeCreateOnly(probed, env.id());
  } catch (fault) {
    client.destroy();
    throw fault;
  }
  return new S3Store(client, place, env, limits);
}

interface Place {
  url: string;
  bucket: string;
  /** '' or with a slash at its end. */
  prefix: string;
}

function placeOf(url: string): Place {
  const [, bucket = '', path = ''] = /^s3:\/\/([^/]+)(.*)$/i.exec(url) ?? [];
  const folder = path.replace(/^\/+|\/+$/g, '');
  if (bucket === '') {
    throw new TriggerJobError(
      'STORE_UNSUPPORTED',
      `${url} names no bucket: write s3://bucket/dir/`,
    );
  }
  const tail = folder === '' ? '' : `/${folder}`;
  return { url: `s3://${bucket}${tail}`, bucket, prefix: folder === '' ? '' : `${folder}/` };
}

class S3Store implements ObjectStore {
  readonly url: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #requests: S3Requests;
  readonly #uploads: S3Uploads;

  constructor(client: S3Client, place: Place, env: Env, limits: S3Limits & PartLimits) {
    this.url = place.url;
    this.#client = client;
    this.#bucket = place.bucket;
    this.#prefix = place.prefix;
    this.#requests = new S3Requests(env, limits, place.url);
    this.#uploads = new S3Uploads(client, this.#requests, limits);
  }

  /** One small request: throws STORE_UNUSABLE if endpoint, credentials or bucket are wrong. */
  async touch(): Promise<void> {
    const first = { Bucket: this.#bucket, Prefix: this.#prefix, MaxKeys: 1 };
    try {
      await this.#requests.run('listing', 0, ({ signal }) =>
        this.#client.send(new ListObjectsV2Command(first), { abortSignal: signal }),
      );
    } catch (cause) {
      throw new TriggerJobError('STORE_UNUSABLE', `${this.url} can't be used as a store`, {
        cause,
        retryable: isRetryable(cause),
      });
    }
  }

  async put(name: string, content: Buffer): Promise<void> {
    await this.#uploads.put(this.#target(name), content);
  }

  async putPieces(name: string, bytes: number, read: ReadPiece): Promise<void> {
    await this.#uploads.putPieces(this.#target(name), bytes, read);
  }

  async create(name: string, content: Buffer): Promise<'created' | 'exists'> {
    return this.#uploads.create(this.#target(name), content);
  }

  async get(name: string): Promise<Buffer | null> {
    const { Bucket, Key } = this.#target(name);
    return this.#requests.run(`reading ${name}`, 0, async (attempt) => {
      const command = new GetObjectCommand({ Bucket, Key });
      let answer: GetObjectCommandOutput;
      try {
        answer = await this.#client.send(command, { abortSignal: attempt.signal });
      } catch (thrown) {
        // Not any 404: a bucket that is gone, or a proxy's, says nothing of the object (P41, I6).
        if (isAnswer(thrown, 404, 'NoSuchKey')) return null;
        throw thrown;
      }
      return readBody(answer, attempt, `reading ${name}`);
    });
  }

  async getRange(name: string, offset: number, length: number): Promise<Buffer> {
    const { Bucket, Key } = this.#target(name);
    if (length === 0) return Buffer.alloc(0);
    const what = `reading ${length} bytes at ${offset} of ${name}`;
    return this.#requests.run(what, length, async (attempt) => {
      const Range = `bytes=${offset}-${offset + length - 1}`;
      const command = new GetObjectCommand({ Bucket, Key, Range });
      let answer: GetObjectCommandOutput;
      try {
        answer = await this.#client.send(command, { abortSignal: attempt.signal });
      } catch (thrown) {
        if (isAnswer(thrown, 416)) return Buffer.alloc(0); // the object ends before
        throw thrown;
      }
      if (!answer.ContentRange?.startsWith(`bytes ${offset}-`)) {
        (answer.Body as Readable | undefined)?.destroy();
        throw new Error(`${what}: the store answered ${answer.ContentRange ?? 'without a range'}`);
      }
      return readBody(answer, attempt, what);
    });
  }

  async list(prefix: string): Promise<StoredObject[]> {
    checkPrefix(prefix);
    const found: StoredObject[] = [];
    for (let token: string | undefined; ; ) {
      const page = await this.#page(prefix, token);
      for (const { Key = '', Size, LastModified } of page.Contents ?? []) {
        const name = Key.slice(this.#prefix.length);
        // Consoles mark folders with such objects; none of ours is named so.
        if (name === '' || name.endsWith('/')) continue;
        if (Size === undefined || LastModified === undefined) {
          throw this.#oddList(prefix, `${name} has no size or no time`);
        }
        found.push({ name, bytes: Size, modifiedAt: LastModified.getTime() });
      }
      if (page.IsTruncated !== true) return found;
      const next = page.NextContinuationToken;
      // A list that ends early would make objects look absent, and a checkpoint damaged.
      if (next === undefined || next === token) throw this.#oddList(prefix, 'it can not go on');
      token = next;
    }
  }

  async delete(names: readonly string[]): Promise<void> {
    const keys = [...new Set(names)].map((name) => this.#target(name).Key);
    for (let at = 0; at < keys.length; at += DELETE_BATCH) {
      await this.#deleteBatch(keys.slice(at, at + DELETE_BATCH));
    }
  }

  #target(name: string): UploadTarget {
    checkName(name);
    return { Bucket: this.#bucket, Key: this.#prefix + name, name };
  }

  #page(prefix: string, token: string | undefined): Promise<ListObjectsV2CommandOutput> {
    const command = new ListObjectsV2Command({
      Bucket: this.#bucket,
      Prefix: this.#prefix + prefix,
      ...(token === undefined ? {} : { ContinuationToken: token }),
    });
    return this.#requests.run(`listing ${prefix}`, 0, ({ signal }) =>
      this.#client.send(command, { abortSignal: signal }),
    );
  }

  #oddList(prefix: string, fault: string): TriggerJobError {
    return new TriggerJobError('STORE_REQUEST', `listing ${prefix} in ${this.url}: ${fault}`);
  }

  /** Only what could not be deleted is asked for again. */
  async #deleteBatch(keys: string[]): Promise<void> {
    let left = keys;
    await this.#requests.run(`deleting ${keys.length} objects`, 0, async ({ signal }) => {
      const Objects = left.map((Key) => ({ Key }));
      const { Errors = [] } = await this.#client.send(
        new DeleteObjectsCommand({ Bucket: this.#bucket, Delete: { Objects, Quiet: true } }),
        { abortSignal: signal },
      );
      const failed = Errors.filter(({ Code }) => Code !== 'NoSuchKey');
      const [first] = failed;
      if (first === undefined) return;
      const retryable = failed.every(({ Code = '' }) => isTransientCode(Code));
      const { Key = '', Code = '', Message = '' } = first;
      const text = `${failed.length} of them failed, first ${Key}: ${Code}: ${Message}`;
      left = failed.flatMap((one) => one.Key ?? []);
      throw new TriggerJobError('STORE_REQUEST', text, { retryable });
    });
  }
}

/** To its end, or it is destroyed: a body that nobody reads holds its socket for ever. */
async function readBody(
  { Body, ContentLength }: GetObjectCommandOutput,
  attempt: Attempt,
  what: string,
): Promise<Buffer> {
  const body = Body as Readable | undefined;
  if (ContentLength === undefined) {
    body?.destroy();
    throw new Error(`${what}: the answer does not say how long it is`);
  }
  attempt.expect(ContentLength);
  // Filled as it comes: to join 64 MiB of chunks at the end would stop a slot for 20 ms.
  const content = Buffer.allocUnsafeSlow(ContentLength);
  let bytes = 0;
  // Leaving the loop in any way destroys the stream.
  for await (const chunk of body ?? []) bytes += (chunk as Buffer).copy(content, bytes);
  if (bytes === ContentLength) return content;
  throw transient(`${what}: ${bytes} bytes came instead of ${ContentLength}`);
}
