/**
 * Entry of the operator's process: options, keys, signals, and what is done with a job. Exit codes:
 * 0 stopped in order, 1 leadership lost (begin again as a standby) or a fault, 2 wrong options.
 */
import { readFile } from 'node:fs/promises';
import { type Logger, pino } from 'pino';
import { checkSpec } from './decide/spec.ts';
import { desiredObjects } from './desired/desired.ts';
import { type HmacKeys, parseHmacKeys, restTokens } from './desired/secret.ts';
import { type Env, realEnv, sleep } from './env.ts';
import { messageOf } from './kube/kube-error.ts';
import type { Work } from './kube/work-queue.ts';
import { JobManagerClient } from './observe/jobmanager-client.ts';
import { credentialSource, Operator, type OperatorParts } from './operator.ts';
import { type OperatorOptions, parseOptions } from './options.ts';
import { type ReconcileDeps, reconcile } from './reconcile.ts';

/** A mounted Secret changes by itself within a minute or so. */
const KEY_REFRESH_MS = 30_000;

/**
 * The HMAC keys of a mounted file, read again while it is in use: a rotated one is rolled through.
 */
class KeyFile {
  readonly #path: string;
  readonly #log: Logger;
  keys: HmacKeys;

  private constructor(path: string, log: Logger, keys: HmacKeys) {
    this.#path = path;
    this.#log = log;
    this.keys = keys;
  }

  static async open(path: string, log: Logger): Promise<KeyFile> {
    return new KeyFile(path, log, parseHmacKeys(await readFile(path, 'utf8')));
  }

  async follow(env: Env, signal: AbortSignal): Promise<void> {
    while (await sleep(env, KEY_REFRESH_MS, signal)) {
      try {
        this.keys = parseHmacKeys(await readFile(this.#path, 'utf8'));
      } catch (error) {
        this.#log.warn({ error: messageOf(error) }, 'the HMAC keys stay as they were');
      }
    }
  }
}

function reconcileWith(options: OperatorOptions, keyFile: KeyFile): OperatorParts['reconcile'] {
  return ({ kube, caches, env }): Work => {
    const deps: ReconcileDeps = {
      env,
      kube,
      caches,
      memories: new Map(),
      jobManager: new JobManagerClient({
        env,
        baseUrl: ({ namespace, name }) =>
          options.jobManagerUrl.replace('{namespace}', namespace).replace('{name}', name),
        tokens: ({ uid }) => restTokens(keyFile.keys, uid),
      }),
      settings: {
        desired: (spec, deployment) =>
          desiredObjects(spec.job, deployment, {
            workerImage: options.workerImage,
            hmacKeys: keyFile.keys,
            clusterDomain: options.clusterDomain,
            operatorNamespace: options.leaseNamespace,
            restClients: options.restClients,
          }),
        check: checkSpec,
      },
    };
    return (key) => {
      const [namespace = '', name = ''] = key.split('/');
      return reconcile(deps, { namespace, name });
    };
  };
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  const log = pino({ level: options.logLevel, base: { component: 'operator', pid: process.pid } });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'stops');
      stop.abort();
    });
  }
  const keyFile = await KeyFile.open(options.keyFile, log);
  void keyFile.follow(realEnv, stop.signal);
  const source = await credentialSource(options.kubeconfig, process.env);
  const operator = new Operator({
    env: realEnv,
    log,
    options,
    source,
    reconcile: reconcileWith(options, keyFile),
  });
  return await operator.run(stop.signal);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`triggerjob-operator: ${messageOf(error)}\n`);
    process.exit(2);
  },
);
