/**
 * For tests only: as much of S3 as the store speaks, on loopback, with a place for faults around
 * every effect. What it promises is S3's: strong consistency, `If-None-Match: *`, parts that count
 * only when the upload is completed. Checks what a real one checks: bucket, key id, sha256 of the
 * body. That its answers are those of a real one is s3-store.int.test.ts's to show: the same
 * contract runs there.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { S3Plan } from '../plan/job-plan.ts';
import { realEnv } from '../runtime/env.ts';

export type FakeOperation =
  | 'PutObject'
  | 'GetObject'
  | 'HeadObject'
  | 'ListObjectsV2'
  | 'DeleteObjects'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload';

export interface FakeRequest {
  operation: FakeOperation;
  key: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: Buffer;
  /** How many requests of this operation came before. */
  before: number;
}

export type FakeFault =
  /** In place of the effect. `body`: not S3's, e.g. a proxy's page. */
  | { kind: 'answer'; status: number; code?: string; body?: string }
  /** The effect takes place, its answer is lost. */
  | { kind: 'lost' }
  /** The connection is cut before the effect. */
  | { kind: 'cut' }
  /** No effect, no answer. */
  | { kind: 'hang' }
  /** The answer stops after so many bytes of its body; the connection is cut, or stays. */
  | { kind: 'torn'; bytes: number; end: 'cut' | 'hang' }
  /** DeleteObjects: these keys fail, the others go. */
  | { kind: 'keys'; failing: Record<string, string> };

interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: string | Buffer;
}

interface StoredFake {
  content: Buffer;
  modifiedAt: number;
}

export class FakeS3 {
  readonly objects = new Map<string, StoredFake>();
  /** Uploads that were neither completed nor aborted, with their parts. */
  readonly uploads = new Map<string, Map<number, Buffer>>();
  readonly requests: FakeRequest[] = [];
  /** What goes wrong with a request; null: nothing. */
  fault: (request: FakeRequest) => FakeFault | null = () => null;
  /** false: as a store that has never heard of If-None-Match. */
  createOnly = true;
  pageSize = 1000;
  accessKeyId = 'test-key';
  readonly #server: Server;
  #uploadsSoFar = 0;

  private constructor() {
    this.#server = createServer((request, response) => {
      request.on('error', () => {});
      response.on('error', () => {});
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => this.#receive(request, response, Buffer.concat(chunks)));
    });
  }

  static async start(): Promise<FakeS3> {
    const fake = new FakeS3();
    await new Promise<void>((done) => fake.#server.listen(0, '127.0.0.1', done));
    return fake;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Settings that reach it, apart from the credentials. */
  get plan(): S3Plan {
    return { endpoint: this.endpoint, region: null, pathStyle: null, credentials: null };
  }

  connections(): Promise<number> {
    return new Promise((done, fail) => {
      this.#server.getConnections((error, count) => (error ? fail(error) : done(count)));
    });
  }

  countOf(operation: FakeOperation): number {
    return this.requests.filter((request) => request.operation === operation).length;
  }

  #receive(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
    const url = new URL(request.url ?? '/', this.endpoint);
    const [, bucket = '', ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const key = rest.join('/');
    const operation = operationOf(request.method ?? '', key, url.searchParams);
    const before = this.countOf(operation);
    const { headers } = request;
    const seen = { operation, key, query: url.searchParams, headers, body, before };
    this.requests.push(seen);
    const fault = this.fault(seen);
    if (fault?.kind === 'hang') return;
    if (fault?.kind === 'cut') {
      request.socket.destroy();
      return;
    }
    const answer =
      fault?.kind === 'answer' ? faultAnswer(fault) : this.#answer(bucket, seen, fault);
    if (fault?.kind === 'lost') request.socket.destroy();
    else send(response, answer, fault?.kind === 'torn' ? fault : null);
  }

  #answer(bucket: string, request: FakeRequest, fault: FakeFault | null): Answer {
    const refused = this.#refuse(bucket, request);
    if (refused !== null) return refused;
    switch (request.operation) {
      case 'PutObject':
        return this.#put(request);
      case 'GetObject':
      case 'HeadObject':
        return this.#get(request);
      case 'ListObjectsV2':
        return this.#list(request.query);
      case 'DeleteObjects':
        return this.#delete(request, fault?.kind === 'keys' ? fault.failing : {});
      default:
        return this.#multipart(request);
    }
  }

  #refuse(bucket: string, { headers, body }: FakeRequest): Answer | null {
    if (!headers.authorization?.includes(`Credential=${this.accessKeyId}/`)) {
      return errorAnswer(403, 'InvalidAccessKeyId');
    }
    if (bucket !== 'bucket') return errorAnswer(404, 'NoSuchBucket');
    const sha256 = createHash('sha256').update(body).digest('hex');
    const said = headers['x-amz-content-sha256'];
    return said === sha256 ? null : errorAnswer(400, 'XAmzContentSHA256Mismatch');
  }

  #put({ key, headers, body }: FakeRequest): Answer {
    if (headers['if-none-match'] === '*' && this.createOnly && this.objects.has(key)) {
      return errorAnswer(412, 'PreconditionFailed');
    }
    this.objects.set(key, { content: body, modifiedAt: realEnv.now() });
    return { status: 200, headers: { etag: etagOf(body) } };
  }

  #get({ operation, key, headers }: FakeRequest): Answer {
    const found = this.objects.get(key);
    if (found === undefined) {
      return operation === 'HeadObject' ? { status: 404 } : errorAnswer(404, 'NoSuchKey');
    }
    const { content } = found;
    const shared = {
      etag: etagOf(content),
      'last-modified': new Date(found.modifiedAt).toUTCString(),
    };
    if (operation === 'HeadObject') {
      return { status: 200, headers: { ...shared, 'content-length': String(content.length) } };
    }
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
    if (first === undefined) return { status: 200, headers: shared, body: content };
    const from = Number(first);
    if (from >= content.length) return errorAnswer(416, 'InvalidRange');
    const body = content.subarray(from, Number(last) + 1);
    const range = `bytes ${from}-${from + body.length - 1}/${content.length}`;
    return { status: 206, headers: { ...shared, 'content-range': range }, body };
  }

  #list(query: URLSearchParams): Answer {
    const prefix = query.get('prefix') ?? '';
    const after = query.get('continuation-token') ?? '';
    const limit = Math.min(this.pageSize, Number(query.get('max-keys') ?? this.pageSize));
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after);
    const page = keys.toSorted().slice(0, limit);
    const last = page.at(-1);
    const truncated = page.length < keys.length && last !== undefined;
    const contents = page.map((key) => {
      const { content, modifiedAt } = this.objects.get(key) as StoredFake;
      return (
        `<Contents><Key>${escapeXml(key)}</Key><Size>${content.length}</Size>` +
        `<LastModified>${new Date(modifiedAt).toISOString()}</LastModified></Contents>`
      );
    });
    const token = truncated ? `<NextContinuationToken>${last}</NextContinuationToken>` : '';
    const inner = `<IsTruncated>${truncated}</IsTruncated>${token}${contents.join('')}`;
    return { status: 200, body: `<ListBucketResult>${inner}</ListBucketResult>` };
  }

  #delete({ body }: FakeRequest, failing: Record<string, string>): Answer {
    const keys = [...body.toString().matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = '']) => key);
    if (keys.length === 0 || keys.length > 1000) return errorAnswer(400, 'MalformedXML');
    const errors = keys.flatMap((key) => {
      const code = failing[key];
      if (code === undefined) this.objects.delete(key);
      return code === undefined
        ? []
        : [`<Error><Key>${key}</Key><Code>${code}</Code><Message>no</Message></Error>`];
    });
    return { status: 200, body: `<DeleteResult>${errors.join('')}</DeleteResult>` };
  }

  #multipart({ operation, key, query, body }: FakeRequest): Answer {
    if (operation === 'CreateMultipartUpload') {
      const id = `upload-${this.#uploadsSoFar++}`;
      this.uploads.set(id, new Map());
      const result = `<UploadId>${id}</UploadId>`;
      return {
        status: 200,
        body: `<InitiateMultipartUploadResult>${result}</InitiateMultipartUploadResult>`,
      };
    }
    const id = query.get('uploadId') ?? '';
    const parts = this.uploads.get(id);
    if (parts === undefined) return errorAnswer(404, 'NoSuchUpload');
    if (operation === 'UploadPart') {
      parts.set(Number(query.get('partNumber')), body);
      return { status: 200, headers: { etag: etagOf(body) } };
    }
    this.uploads.delete(id);
    if (operation === 'AbortMultipartUpload') return { status: 204 };
    const named = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)];
    const pieces = named.map(([, number]) => parts.get(Number(number)) ?? Buffer.alloc(0));
    this.objects.set(key, { content: Buffer.concat(pieces), modifiedAt: realEnv.now() });
    const result = `<Key>${escapeXml(key)}</Key><ETag>"x"</ETag>`;
    return {
      status: 200,
      body: `<CompleteMultipartUploadResult>${result}</CompleteMultipartUploadResult>`,
    };
  }
}

function operationOf(method: string, key: string, query: URLSearchParams): FakeOperation {
  if (method === 'GET') return key === '' ? 'ListObjectsV2' : 'GetObject';
  if (method === 'HEAD') return 'HeadObject';
  if (method === 'DELETE') return 'AbortMultipartUpload';
  if (method === 'PUT') return query.has('partNumber') ? 'UploadPart' : 'PutObject';
  if (query.has('delete')) return 'DeleteObjects';
  return query.has('uploads') ? 'CreateMultipartUpload' : 'CompleteMultipartUpload';
}

function faultAnswer(fault: FakeFault & { kind: 'answer' }): Answer {
  const { status, code, body } = fault;
  return code === undefined ? { status, body: body ?? '' } : errorAnswer(status, code);
}

function errorAnswer(status: number, code: string): Answer {
  const inner = `<Code>${code}</Code><Message>the fake says ${code}</Message>`;
  return { status, body: `<Error>${inner}<RequestId>r1</RequestId></Error>` };
}

function send(
  response: ServerResponse,
  answer: Answer,
  torn: (FakeFault & { kind: 'torn' }) | null,
): void {
  const body = Buffer.from(answer.body ?? '');
  const length = { 'content-length': String(body.length) };
  response.writeHead(answer.status, { ...length, ...answer.headers });
  if (torn === null) {
    response.end(body);
    return;
  }
  response.write(body.subarray(0, torn.bytes), () => {
    if (torn.end === 'cut') response.destroy();
  });
}

function etagOf(content: Buffer): string {
  return `"${createHash('md5').update(content).digest('hex')}"`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
