/** The part of the schema for stores that speak S3. */
import Type from 'typebox';
import { block, flag, text } from './schema-fields.ts';
import { objectName } from './schema-source.ts';

const CREDENTIAL_FILE =
  'A relative path starts at the job file, or, with credentialsRef, is a key of that Secret.';
const DEFAULT_CHAIN = "Default: what the SDK's chain finds: environment, web identity, instance.";

export const s3Schema = block('How s3:// directories are reached, those of savepoints too.', {
  endpoint: Type.Optional(
    text(
      "URL of an S3-compatible store. Default: AWS_ENDPOINT_URL_S3, or AWS's own of the region.",
      'http://minio:9000',
      { rule: { kind: 'url' } },
    ),
  ),
  region: Type.Optional(
    text(
      'Region that requests are signed for. Default: AWS_REGION, or us-east-1 with an endpoint.',
      'eu-central-1',
      {
        pattern: '^[a-z0-9][a-z0-9-]*$',
        maxLength: 63,
        reason: 'a region has lower case letters, digits and -',
      },
    ),
  ),
  pathStyle: Type.Optional(
    flag('The bucket is in the path, not in the host name. Default: true with an endpoint.'),
  ),
  accessKeyFile: Type.Optional(
    text(
      `File with the access key id, read again for each request. ${CREDENTIAL_FILE} ` +
        `With credentialsRef: access-key. ${DEFAULT_CHAIN}`,
      'access-key',
    ),
  ),
  secretKeyFile: Type.Optional(
    text(
      `File with the secret access key. ${CREDENTIAL_FILE} With credentialsRef: secret-key. ` +
        DEFAULT_CHAIN,
      'secret-key',
    ),
  ),
  credentialsRef: Type.Optional(
    block('Secret that holds the two files.', { name: objectName('Secret', 's3-credentials') }),
  ),
});
