/** What the operator is told by flags or by the environment; a flag wins. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseRestClients, type RestClients } from './desired/network-policy.ts';
import { type Address, parseAddress } from './endpoints.ts';
import type { ElectionTimes } from './kube/leader-election.ts';

export interface OperatorOptions {
  /** Empty: all. */
  namespaces: string[];
  workerImage: string;
  /** File with the HMAC key that per-job secrets are derived from. */
  keyFile: string;
  kubeconfig: string | undefined;
  /** Where a job's JobManager answers; {namespace} and {name} are filled in. */
  jobManagerUrl: string;
  /** Such as cluster.local; empty: names end in .svc. */
  clusterDomain: string;
  /** NetworkPolicies let everybody ask a JobManager, in place of the operator and its peers. */
  restClients: RestClients;
  leaderElect: boolean;
  leaseName: string;
  /** Where the Lease is: the operator's own namespace. */
  leaseNamespace: string;
  /** This process' name in the Lease and in Events; a random part is added. */
  identity: string;
  electionTimes: ElectionTimes;
  metricsAddress: Address | null;
  healthAddress: Address | null;
  concurrency: number;
  apiQps: number;
  apiBurst: number;
  resyncMs: number;
  staleMs: number;
  shutdownMs: number;
  logLevel: string;
}

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function duration(text: string): number {
  const found = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  if (found === null) throw new InvalidArgumentError('a duration such as 500ms, 15s, 5m.');
  return Number(found[1]) * (UNITS[found[2] ?? ''] ?? 0);
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a number from 1 on.');
  return value;
}

function clients(text: string): RestClients {
  try {
    return parseRestClients(text);
  } catch (error) {
    throw new InvalidArgumentError(String(error));
  }
}

const names = (text: string): string[] =>
  text.split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()]));

const option = (flags: string, help: string, variable: string): Option =>
  new Option(flags, help).env(variable);

function commandOf(): Command {
  return ofProcess(ofJobs(new Command('triggerjob-operator')));
}

/** What the jobs become. */
function ofJobs(command: Command): Command {
  return command
    .description('Runs TriggerJobs on Kubernetes.')
    .addOption(
      option('--namespaces <list>', 'namespaces to look at; empty: all', 'WATCH_NAMESPACES')
        .argParser(names)
        .default([]),
    )
    .addOption(
      option('--worker-image <image>', 'image of a job that names none', 'WORKER_IMAGE').default(
        'triggerjob-worker:0.1.0',
      ),
    )
    .addOption(
      option('--key-file <path>', 'HMAC keys, one a line, newest first', 'HMAC_KEY_FILE').default(
        '/etc/triggerjob-operator/key/hmac',
      ),
    )
    .addOption(option('--kubeconfig <path>', 'for use outside of a cluster', 'KUBECONFIG'))
    .addOption(
      option('--jobmanager-url <url>', 'REST of a job', 'JOBMANAGER_URL').default(
        'http://{name}-rest.{namespace}.svc:8081',
      ),
    )
    .addOption(
      option('--cluster-domain <name>', 'such as cluster.local', 'CLUSTER_DOMAIN').default(''),
    )
    .addOption(
      option('--rest-clients <json>', 'NetworkPolicy peers, or "anywhere"', 'REST_CLIENTS')
        .argParser(clients)
        .default([], 'only the operator and the job itself'),
    );
}

/** How this process works. */
function ofProcess(command: Command): Command {
  return command
    .option('--no-leader-elect', 'act without a Lease; there must be one process only')
    .addOption(
      option('--lease-name <name>', 'name of the Lease', 'LEASE_NAME').default(
        'triggerjob-operator',
      ),
    )
    .addOption(
      option('--lease-namespace <name>', 'the operator’s own', 'POD_NAMESPACE').default('default'),
    )
    .addOption(
      option('--identity <name>', 'name of this process', 'POD_NAME').default(
        'triggerjob-operator',
      ),
    )
    .addOption(duringOption('--lease-duration <time>', 'others wait so long', 15_000))
    .addOption(duringOption('--renew-deadline <time>', 'the leader acts so long', 10_000))
    .addOption(duringOption('--retry-period <time>', 'between two renewals', 2_000))
    .addOption(
      option('--metrics-address <address>', '/metrics; 0: none', 'METRICS_ADDRESS').default(
        ':8080',
      ),
    )
    .addOption(
      option('--health-address <address>', '/healthz, /readyz; 0: none', 'HEALTH_ADDRESS').default(
        ':8081',
      ),
    )
    .addOption(
      option('--concurrency <n>', 'jobs reconciled at once', 'CONCURRENCY')
        .argParser(count)
        .default(10),
    )
    .addOption(
      option('--api-qps <n>', 'requests to the API server per second', 'API_QPS')
        .argParser(count)
        .default(100),
    )
    .addOption(
      option('--api-burst <n>', 'of those, at once', 'API_BURST').argParser(count).default(200),
    )
    .addOption(duringOption('--resync <time>', 'lists everything again', 1_800_000))
    .addOption(duringOption('--stale-after <time>', '/healthz fails: deaf watch', 300_000))
    .addOption(duringOption('--shutdown-timeout <time>', 'for reconciles under way', 20_000))
    .addOption(option('--log-level <level>', 'of pino', 'LOG_LEVEL').default('info'));
}

const duringOption = (flags: string, help: string, defaultMs: number): Option =>
  new Option(flags, help).argParser(duration).default(defaultMs, `${defaultMs / 1000}s`);

/** Throws with what is wrong. `arguments` without node and script. */
export function parseOptions(given: readonly string[]): OperatorOptions {
  const parsed = commandOf()
    .parse([...given], { from: 'user' })
    .opts();
  const times: ElectionTimes = {
    leaseDurationMs: parsed['leaseDuration'],
    renewDeadlineMs: parsed['renewDeadline'],
    retryPeriodMs: parsed['retryPeriod'],
  };
  if (!(times.leaseDurationMs > times.renewDeadlineMs)) {
    throw new Error('--lease-duration must be more than --renew-deadline: two would act at once');
  }
  if (!(times.renewDeadlineMs > 1.2 * times.retryPeriodMs)) {
    throw new Error('--renew-deadline must be more than 1.2 times --retry-period');
  }
  return {
    namespaces: parsed['namespaces'],
    workerImage: parsed['workerImage'],
    keyFile: parsed['keyFile'],
    kubeconfig: parsed['kubeconfig'],
    jobManagerUrl: parsed['jobmanagerUrl'],
    clusterDomain: parsed['clusterDomain'],
    restClients: parsed['restClients'],
    leaderElect: parsed['leaderElect'],
    leaseName: parsed['leaseName'],
    leaseNamespace: parsed['leaseNamespace'],
    identity: parsed['identity'],
    electionTimes: times,
    metricsAddress: parseAddress(parsed['metricsAddress']),
    healthAddress: parseAddress(parsed['healthAddress']),
    concurrency: parsed['concurrency'],
    apiQps: parsed['apiQps'],
    apiBurst: parsed['apiBurst'],
    resyncMs: parsed['resync'],
    staleMs: parsed['staleAfter'],
    shutdownMs: parsed['shutdownTimeout'],
    logLevel: parsed['logLevel'],
  };
}
