/** Rules and resolution of `spec.checkpointing.s3`. */
import type { CompleteSpec } from './derived.ts';
import type { Faults } from './fault.ts';
import type { S3Plan } from './job-plan.ts';
import type { RuleInput } from './rules.ts';
import { filePath, type Site } from './site.ts';

type S3 = CompleteSpec['checkpointing']['s3'];

const PATH = 'spec.checkpointing.s3';

export function s3Rules({ spec, site }: RuleInput, faults: Faults): void {
  const { endpoint, accessKeyFile, secretKeyFile, credentialsRef } = spec.checkpointing?.s3 ?? {};
  if (endpoint !== undefined && new URL(endpoint).search !== '') {
    faults.add(`${PATH}.endpoint`, `is ${endpoint}: remove the query, requests have their own`);
  }
  const one = accessKeyFile === undefined ? 'secretKeyFile' : 'accessKeyFile';
  const other = accessKeyFile === undefined ? 'accessKeyFile' : 'secretKeyFile';
  const half = (accessKeyFile === undefined) !== (secretKeyFile === undefined);
  const judged = !faults.isBroken(`${PATH}.${other}`) && !faults.isBroken(`${PATH}.credentialsRef`);
  if (half && credentialsRef === undefined && judged) {
    faults.add(`${PATH}.${other}`, `is missing: ${one} needs it, or give credentialsRef`);
  }
  for (const [name, file] of Object.entries({ accessKeyFile, secretKeyFile })) {
    if (file === undefined || filePath(file, credentialsRef?.name, site) !== null) continue;
    faults.add(`${PATH}.${name}`, `is ${file}: write an absolute path, or give credentialsRef`);
  }
}

/** Of a spec without faults. */
export function s3Plan(s3: S3, site: Site): S3Plan {
  const { accessKeyFile, secretKeyFile, credentialsRef } = s3;
  const file = (path: string) => ({ path: filePath(path, credentialsRef?.name, site) ?? path });
  const given = accessKeyFile !== undefined || credentialsRef !== undefined;
  return {
    endpoint: s3.endpoint ?? null,
    region: s3.region ?? null,
    pathStyle: s3.pathStyle ?? null,
    credentials: given
      ? {
          accessKey: file(accessKeyFile ?? 'access-key'),
          secretKey: file(secretKeyFile ?? 'secret-key'),
        }
      : null,
  };
}
