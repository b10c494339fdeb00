/**
 * Objects on their way into S3: one request up to the size of a part, a multipart upload beyond,
 * with a few parts under way. The content is never copied: parts and pieces are views of it. A slot
 * thread uploads beside event processing, so hashing and writing give way in between.
 *
 * Every body is signed with its sha256, which every S3 checks: a body that was damaged on the way
 * is refused by the store and sent again.
 */
import { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { ReadPiece } from './object-store.ts';
import { isAnswer, type S3Requests, transient } from './s3-request.ts';
import { TURN_BYTES } from './segment-format.ts';
import { sha256Of } from './sha256.ts';

export interface PartLimits {
  /** S3 takes no part below 5 MiB but the last, and 10,000 of them. */
  partBytes: number;
  partsInFlight: number;
}

export const PART_LIMITS: PartLimits = { partBytes: 16 * 1024 * 1024, partsInFlight: 4 };

/** An object's place. `name` is for messages. */
export interface UploadTarget {
  Bucket: string;
  Key: string;
  name: string;
}

export class S3Uploads {
  readonly #client: S3Client;
  readonly #requests: S3Requests;
  readonly #limits: PartLimits;

  constructor(client: S3Client, requests: S3Requests, limits: PartLimits) {
    this.#client = client;
    this.#requests = requests;
    this.#limits = limits;
  }

  /** Creates or replaces. */
  async put(target: UploadTarget, content: Buffer): Promise<void> {
    if (content.length <= this.#limits.partBytes) await this.#putWhole(target, content, {});
    else {
      const read = async (at: number, bytes: number) => content.subarray(at, at + bytes);
      await this.#putInParts(target, content.length, read);
    }
  }

  /** Creates or replaces, with no more than the parts under way in memory. */
  async putPieces(target: UploadTarget, bytes: number, read: ReadPiece): Promise<void> {
    if (bytes > this.#limits.partBytes) await this.#putInParts(target, bytes, read);
    else await this.#putWhole(target, await read(0, bytes), {});
  }

  /**
   * 'exists' for a 412, and so for an object of ours whose answer was lost: a second try meets it
   * (P41).
   */
  async create(target: UploadTarget, content: Buffer): Promise<'created' | 'exists'> {
    return this.#putWhole(target, content, { IfNoneMatch: '*' });
  }

  async #putWhole(
    target: UploadTarget,
    content: Buffer,
    condition: { IfNoneMatch?: '*' },
  ): Promise<'created' | 'exists'> {
    const { Bucket, Key, name } = target;
    const sha256 = await sha256Of(content);
    const what = condition.IfNoneMatch === undefined ? 'putting' : 'creating';
    return this.#requests.run(`${what} ${name}`, content.length, async ({ signal }) => {
      const put = new PutObjectCommand({ Bucket, Key, ...condition, ...bodyOf(content) });
      put.middlewareStack.add((next) => (args) => next(withPayloadHash(args, sha256)), BUILD);
      try {
        await this.#client.send(put, { abortSignal: signal });
        return 'created';
      } catch (thrown) {
        if (condition.IfNoneMatch !== undefined && isAnswer(thrown, 412)) return 'exists';
        throw thrown;
      }
    });
  }

  async #putInParts(target: UploadTarget, bytes: number, read: ReadPiece): Promise<void> {
    const { Bucket, Key, name } = target;
    const { UploadId } = await this.#requests.run(`starting the upload of ${name}`, 0, (attempt) =>
      this.#client.send(new CreateMultipartUploadCommand({ Bucket, Key }), {
        abortSignal: attempt.signal,
      }),
    );
    if (UploadId === undefined) throw transient(`starting the upload of ${name}: no upload id`);
    try {
      const Parts = await this.#putParts(target, UploadId, bytes, read);
      await this.#complete(target, UploadId, Parts, bytes);
    } catch (fault) {
      await this.#abandon(target, UploadId);
      throw fault;
    }
  }

  async #putParts(
    target: UploadTarget,
    UploadId: string,
    bytes: number,
    read: ReadPiece,
  ): Promise<CompletedPart[]> {
    const { partBytes, partsInFlight } = this.#limits;
    const count = Math.ceil(bytes / partBytes);
    const parts: CompletedPart[] = [];
    const others = new AbortController();
    let next = 0;
    const worker = async () => {
      while (next < count && !others.signal.aborted) {
        const index = next++;
        const at = index * partBytes;
        const part = await read(at, Math.min(partBytes, bytes - at));
        parts[index] = await this.#putPart(target, UploadId, index + 1, part, others.signal);
      }
    };
    const workers = Array.from({ length: Math.min(partsInFlight, count) }, async () => {
      try {
        await worker();
      } catch (fault) {
        others.abort(fault);
        throw fault;
      }
    });
    // All of them must have ended before the upload is abandoned: a part that arrives later stays.
    const ends = await Promise.allSettled(workers);
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw others.signal.reason;
    return parts;
  }

  async #putPart(
    { Bucket, Key, name }: UploadTarget,
    UploadId: string,
    PartNumber: number,
    part: Buffer,
    others: AbortSignal,
  ): Promise<CompletedPart> {
    const sha256 = await sha256Of(part);
    const what = `putting part ${PartNumber} of ${name}`;
    const send = async ({ signal }: { signal: AbortSignal }) => {
      const upload = { Bucket, Key, UploadId, PartNumber };
      const put = new UploadPartCommand({ ...upload, ...bodyOf(part) });
      put.middlewareStack.add((next) => (args) => next(withPayloadHash(args, sha256)), BUILD);
      const { ETag } = await this.#client.send(put, { abortSignal: signal });
      if (ETag === undefined) throw transient(`${what}: the answer has no ETag`);
      return { PartNumber, ETag };
    };
    return this.#requests.run(what, part.length, send, others);
  }

  async #complete(
    target: UploadTarget,
    UploadId: string,
    Parts: CompletedPart[],
    bytes: number,
  ): Promise<void> {
    const { Bucket, Key, name } = target;
    // It takes longer the more there is to join, so it gets the time of a transfer.
    await this.#requests.run(`completing ${name}`, bytes, async ({ signal }) => {
      const upload = { Bucket, Key, UploadId, MultipartUpload: { Parts } };
      try {
        const command = new CompleteMultipartUploadCommand(upload);
        await this.#client.send(command, { abortSignal: signal });
      } catch (thrown) {
        // A try whose answer was lost may have completed it; the name is this upload's own (P46).
        if (!isAnswer(thrown, 404, 'NoSuchUpload')) throw thrown;
        const head = new HeadObjectCommand({ Bucket, Key });
        const { ContentLength } = await this.#client.send(head, { abortSignal: signal });
        if (ContentLength !== bytes) throw thrown;
      }
    });
  }

  /** Stored parts cost money until this. What is left after a fault here is the bucket's rule's. */
  async #abandon({ Bucket, Key, name }: UploadTarget, UploadId: string): Promise<void> {
    const abandoning = this.#requests.run(`abandoning ${name}`, 0, ({ signal }) =>
      this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), {
        abortSignal: signal,
      }),
    );
    await abandoning.catch(() => {});
  }
}

/** In pieces: TLS encrypts what it is given in one go, 16 MiB for many milliseconds. */
function bodyOf(content: Buffer): { Body: Buffer | Readable; ContentLength: number } {
  const ContentLength = content.length;
  if (ContentLength <= TURN_BYTES) return { Body: content, ContentLength };
  return { Body: Readable.from(piecesOf(content), { objectMode: false }), ContentLength };
}

function* piecesOf(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.length; at += TURN_BYTES) {
    yield content.subarray(at, at + TURN_BYTES);
  }
}

const BUILD = { step: 'build', name: 'payloadHash', override: true } as const;

/** Without it the SDK signs a stream as UNSIGNED-PAYLOAD, and hashes a buffer in one go. */
function withPayloadHash<Args extends { request: unknown }>(args: Args, sha256: string): Args {
  const { headers } = args.request as { headers: Record<string, string> };
  headers['x-amz-content-sha256'] = sha256;
  return args;
}
