/** The SDK's client for a job's S3 settings. Retries and deadlines are s3-request.ts's. */
import { readFile } from 'node:fs/promises';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import type { S3Plan, SecretFile } from '../plan/job-plan.ts';
import { TriggerJobError } from '../runtime/errors.ts';

const ignore = () => {};
/** Without one, the SDK warns on the console of each failed body that it can't send again. */
const SILENT = { trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore };

export function makeS3Client(s3: S3Plan): S3Client {
  const { env } = process;
  // The SDK reads these too; here they also decide the two defaults that follow from an endpoint.
  const endpoint = s3.endpoint ?? env['AWS_ENDPOINT_URL_S3'] ?? env['AWS_ENDPOINT_URL'];
  const region = s3.region ?? env['AWS_REGION'] ?? (endpoint === undefined ? null : 'us-east-1');
  return new S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === null ? {} : { region }),
    ...(s3.credentials === null ? {} : { credentials: fileCredentials(s3.credentials) }),
    forcePathStyle: s3.pathStyle ?? endpoint !== undefined,
    maxAttempts: 1,
    // Stores that only speak S3 refuse the SDK's checksum trailers. What is sent is protected by
    // the signed sha256 of every body instead (s3-upload.ts), what is read by the manifest's.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It would cost each part a connection of its own.
    expectContinueHeader: false,
    logger: SILENT,
  });
}

/** Read for each request, so that a rotated key is used at once; that costs less than signing. */
function fileCredentials(files: {
  accessKey: SecretFile;
  secretKey: SecretFile;
}): NonNullable<S3ClientConfig['credentials']> {
  return async () => {
    const [accessKeyId, secretAccessKey] = await Promise.all([
      readSecret(files.accessKey),
      readSecret(files.secretKey),
    ]);
    // Expired from the start: the SDK then keeps nothing.
    return { accessKeyId, secretAccessKey, expiration: new Date(0) };
  };
}

async function readSecret({ path }: SecretFile): Promise<string> {
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    throw badFile(`S3 credentials file ${path} can't be read`, cause);
  }
  if (text === '') throw badFile(`S3 credentials file ${path} is empty`);
  return text;
}

/** Worth another try: half of a rotation must not fail a checkpoint. */
function badFile(message: string, cause?: unknown): TriggerJobError {
  return new TriggerJobError('S3_CREDENTIALS', message, { retryable: true, cause });
}
