/**
 * `npm run lab`: a Kubernetes to try things on, with the worker's image in it, until Ctrl-C.
 *
 *   npm run lab                 prints KUBECONFIG, the PATH of kubectl and helm, and how to enter
 *   npm run lab -- IMAGE.tar    loads a docker archive too
 */
import { dirname } from 'node:path';
import { installHelm, printLine } from './binaries.ts';
import { buildImage } from './images.ts';
import { labImpediment, startLab } from './lab.ts';

const impediment = await labImpediment();
if (impediment !== null) {
  process.stderr.write(`${impediment}\n`);
  process.exit(1);
}
const helm = await installHelm();
const image = await buildImage('worker');
const lab = await startLab();
for (const archive of [image.archive, ...process.argv.slice(2)]) await lab.loadImage(archive);
printLine(`
export KUBECONFIG=${lab.kubeconfig}
export PATH=${lab.kubectlFolder}:${dirname(helm)}:$PATH

image ${image.tag} is loaded: use it with imagePullPolicy: Never
pods and Services are reached after: ${lab.enterWords} COMMAND
Ctrl-C ends the lab.`);
const waits = setInterval(() => {}, 60_000);
await new Promise((done) => process.once('SIGINT', done).once('SIGTERM', done));
clearInterval(waits);
await lab.stop();
