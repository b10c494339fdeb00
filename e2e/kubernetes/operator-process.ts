/**
 * An operator whose reconcile only leaves its mark: it looks at the job, waits a moment as if it
 * had to think, and writes its process id and a number into an annotation, again and again. What
 * the process around it promises can be seen by that.
 * `--slow` thinks longer. `--unfenced` writes past the Lease's fence: a test that can't tell the
 * difference is worth nothing.
 */
import { pino } from 'pino';
import { realEnv, sleep } from '../../operator/src/env.ts';
import { KubeClient } from '../../operator/src/kube/client.ts';
import { credentialSource, Operator } from '../../operator/src/operator.ts';
import { parseOptions } from '../../operator/src/options.ts';

const THINKING_MS = 50;
const SLOW_MS = 1_000;
const OWN = ['--unfenced', '--slow'];
/** A process that has lost its Lease may take a while to end. */
const LAST_BREATH_MS = 500;

const unfenced = process.argv.includes('--unfenced');
const thinkingMs = process.argv.includes('--slow') ? SLOW_MS : THINKING_MS;
const options = parseOptions(process.argv.slice(2).filter((word) => !OWN.includes(word)));
const source = await credentialSource(options.kubeconfig, process.env);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

const operator = new Operator({
  env: realEnv,
  log: pino({ level: options.logLevel }, pino.destination({ dest: 2, sync: true })),
  options,
  source,
  reconcile: ({ kube, caches }) => {
    const api = unfenced
      ? KubeClient.open({
          env: realEnv,
          source,
          limit: { perSecond: 1000, burst: 1000 },
          metrics: { request: () => {} },
        })
      : kube;
    let writes = 0;
    return async (key) => {
      const [namespace = '', name = ''] = key.split('/');
      if (caches.TriggerJob.get(namespace, name) === undefined) return {};
      await sleep(realEnv, thinkingMs);
      writes += 1;
      const annotations = { 'e2e.test/writer': `${process.pid}/${writes}` };
      const ref = { apiVersion: 'triggerjob.io/v1alpha1', kind: 'TriggerJob', namespace, name };
      await api.patch(ref, { metadata: { annotations } });
      return { requeueAfterMs: 1 };
    };
  },
});
process.exitCode = await operator.run(stop.signal);
if (process.exitCode !== 0) setTimeout(() => process.exit(), LAST_BREATH_MS);
else process.exit();
