/** Writes crds/triggerjobs.yaml. Run it after a change of the schema; crd.test.ts tells when. */
import { writeFileSync } from 'node:fs';
import { crdYaml } from './crd-yaml.ts';

writeFileSync(new URL('../../../crds/triggerjobs.yaml', import.meta.url), crdYaml());
