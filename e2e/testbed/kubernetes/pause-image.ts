/** The image of pod sandboxes, a docker archive of one layer: no image builder is needed for it. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { installPause, type Print } from './binaries.ts';
import { PAUSE_IMAGE } from './node-configuration.ts';

const run = promisify(execFile);
const ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch;

/** The archive's path: made once, beside the binary. */
export async function installPauseImage(print?: Print): Promise<string> {
  const folder = dirname(await installPause(print));
  const archive = join(folder, 'image.tar');
  if (await stat(archive).catch(() => null)) return archive;
  const work = await mkdtemp(join(folder, 'work-'));
  const layer = join(work, 'layer.tar');
  const owner = ['--owner=0', '--group=0', '--mtime=@0'];
  await run('tar', ['-C', folder, ...owner, '-cf', layer, 'pause']);
  const sum = createHash('sha256')
    .update(await readFile(layer))
    .digest('hex');
  const image = {
    architecture: ARCHITECTURE,
    os: 'linux',
    config: { Entrypoint: ['/pause'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sum}`] },
  };
  const manifest = [{ Config: 'config.json', RepoTags: [PAUSE_IMAGE], Layers: ['layer.tar'] }];
  await writeFile(join(work, 'config.json'), JSON.stringify(image));
  await writeFile(join(work, 'manifest.json'), JSON.stringify(manifest));
  const files = ['manifest.json', 'config.json', 'layer.tar'];
  await run('tar', ['-C', work, '-cf', join(work, 'image.tar'), ...files]);
  await rename(join(work, 'image.tar'), archive);
  await rm(work, { recursive: true });
  return archive;
}
