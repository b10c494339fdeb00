/**
 * The rules that span fields, one function per topic. Each judges only fields that are there and
 * valid by themselves, so all faults of a file come out together and each once.
 */
import { bytes, type LooseSpec, memoryOf, ms, type Parallelism, parallelismOf } from './derived.ts';
import type { Faults } from './fault.ts';
import { HEADER_NAME, OWN_HEADERS } from './header-names.ts';
import { connectionRules } from './kafka-rules.ts';
import { kubernetesRules } from './kubernetes-rules.ts';
import { locationRules } from './location-rules.ts';
import type { MemoryProblem } from './memory.ts';
import { s3Rules } from './s3-rules.ts';
import { cpuMillis } from './scalar-rules.ts';
import type { Site } from './site.ts';

export interface RuleInput {
  spec: LooseSpec;
  /** The spec before defaults, Flink keys taken over: what the user really said. */
  given: LooseSpec;
  name: string;
  namespace: string;
  site: Site;
}

type Rule = (input: RuleInput, faults: Faults) => void;

const parallelismAndMemory: Rule = ({ spec }, faults) => {
  const found = parallelismOf(spec, (path) => faults.isBroken(path));
  if (found === null) return;
  const { parallelism, slots, taskManagers } = found;
  const product = `taskManager.slots x taskManager.replicas (${slots} x ${taskManagers})`;
  if (parallelism > slots * taskManagers) {
    faults.add(
      'spec.parallelism',
      `is ${parallelism}, more than ${product}: lower it or add replicas`,
    );
  }
  const most = spec.maxParallelism;
  if (most !== undefined && parallelism > most) {
    const problem =
      spec.parallelism === undefined
        ? `is left out, and ${product} is more than maxParallelism: set it to at most ${most}`
        : `is ${parallelism}, more than maxParallelism ${most}: lower it or raise maxParallelism`;
    faults.add('spec.parallelism', problem);
  }
  memoryRules(spec, found, faults);
};

const MEMORY_FIELDS: Record<MemoryProblem['field'], string> = {
  process: 'spec.taskManager.resources.limits.memory',
  managed: 'spec.taskManager.memory.managedFraction',
  network: 'spec.taskManager.memory.networkFraction',
  heapSize: 'spec.taskManager.memory.heapSize',
  slots: 'spec.taskManager.memory',
  slotOutbox: 'spec.taskManager.memory.slotOutbox',
};

function memoryRules(spec: LooseSpec, parallelism: Parallelism, faults: Faults): void {
  if (faults.isBroken(MEMORY_FIELDS.process)) return;
  const division = memoryOf(spec, parallelism);
  if (division === null || 'plan' in division) return;
  const sized = spec.taskManager?.memory?.managedSize !== undefined;
  for (const { field, problem } of division.problems) {
    const managed = field === 'managed' && sized;
    faults.add(managed ? 'spec.taskManager.memory.managedSize' : MEMORY_FIELDS[field], problem);
  }
}

const resources: Rule = ({ spec }, faults) => {
  for (const process of ['jobManager', 'taskManager'] as const) {
    const { requests, limits } = spec[process]?.resources ?? {};
    const path = `spec.${process}.resources`;
    for (const name of ['memory', 'ephemeral-storage'] as const) {
      const least = requests?.[name];
      const most = limits?.[name];
      if (least === undefined || most === undefined || bytes(least) <= bytes(most)) continue;
      faults.add(`${path}.requests.${name}`, `is ${least}, more than the limit ${most}: lower it`);
    }
    const cpu = requests?.cpu;
    const cpuLimit = limits?.cpu;
    if (cpu === undefined || cpuLimit === undefined) continue;
    if ((cpuMillis(cpu) ?? 0) <= (cpuMillis(cpuLimit) ?? 0)) continue;
    faults.add(`${path}.requests.cpu`, `is ${cpu}, more than the limit ${cpuLimit}: lower it`);
  }
};

/** `longer` must not be shorter than `shorter`; both are paths and durations. */
function atLeast(
  faults: Faults,
  longer: [string, string | undefined],
  shorter: [string, string | undefined],
): void {
  const [path, value] = longer;
  const [otherPath, other] = shorter;
  if (value === undefined || other === undefined || ms(value) >= ms(other)) return;
  const name = faults.nameOf(otherPath);
  faults.add(path, `is ${value}, less than ${name} (${other}): raise it or lower the other`);
}

const waits: Rule = ({ spec }, faults) => {
  const api = spec.state?.profileApi;
  const apiPath = 'spec.state.profileApi';
  atLeast(
    faults,
    [`${apiPath}.maxBackoff`, api?.maxBackoff],
    [`${apiPath}.initialBackoff`, api?.initialBackoff],
  );
  const hook = spec.action?.webhook;
  const hookPath = 'spec.action.webhook';
  atLeast(
    faults,
    [`${hookPath}.maxBackoff`, hook?.maxBackoff],
    [`${hookPath}.initialBackoff`, hook?.initialBackoff],
  );
  atLeast(faults, [`${hookPath}.deadline`, hook?.deadline], [`${hookPath}.timeout`, hook?.timeout]);
  const waiting = spec.restartStrategy?.exponentialDelay;
  const restart = 'spec.restartStrategy.exponentialDelay';
  atLeast(
    faults,
    [`${restart}.maxBackoff`, waiting?.maxBackoff],
    [`${restart}.initialBackoff`, waiting?.initialBackoff],
  );
};

/**
 * DESIGN section 8: dead after two signals, so a timeout below two intervals would kill the
 * healthy.
 */
const heartbeat: Rule = ({ spec }, faults) => {
  const { interval, timeout } = spec.heartbeat ?? {};
  if (interval === undefined || timeout === undefined || ms(timeout) >= 2 * ms(interval)) return;
  const name = faults.nameOf('spec.heartbeat.interval');
  const problem = `is ${timeout}, less than two times ${name} (${interval}): raise it`;
  faults.add('spec.heartbeat.timeout', problem);
};

/** A leader must have given up before a standby may take over, and after more than one try. */
const leaderElection: Rule = ({ spec }, faults) => {
  const path = 'spec.jobManager.leaderElection';
  const { lease, renewDeadline, retryPeriod } = spec.jobManager?.leaderElection ?? {};
  const below = (upper: [string, string | undefined], lower: [string, string | undefined]) => {
    const [[high, highValue], [low, lowValue]] = [upper, lower];
    if (highValue === undefined || lowValue === undefined || ms(lowValue) < ms(highValue)) return;
    const name = faults.nameOf(`${path}.${low}`);
    faults.add(`${path}.${high}`, `is ${highValue}, not above ${name} (${lowValue}): raise it`);
  };
  below(['lease', lease], ['renewDeadline', renewDeadline]);
  below(['renewDeadline', renewDeadline], ['retryPeriod', retryPeriod]);
};

const ports: Rule = ({ spec }, faults) => {
  const rest = spec.jobManager?.rest?.port;
  const rpc = spec.jobManager?.rpc?.port;
  if (rest === undefined || rest !== rpc || rest === 0) return;
  const name = faults.nameOf('spec.jobManager.rest.port');
  faults.add('spec.jobManager.rpc.port', `is ${rpc}, the same as ${name}: give it its own`);
};

const strategies: Rule = ({ spec, given }, faults) => {
  const type = spec.restartStrategy?.type;
  const said = given.restartStrategy;
  if (type === undefined || said === undefined) return;
  const blocks = [
    ['exponentialDelay', 'exponential-delay'],
    ['fixedDelay', 'fixed-delay'],
    ['failureRate', 'failure-rate'],
  ] as const;
  for (const [name, needed] of blocks) {
    if (needed === type || said[name] === undefined) continue;
    const path = `spec.restartStrategy.${name}`;
    const [field] = Object.keys(said[name]);
    const shown = field === undefined ? path : `${path}.${field}`;
    const problem = `has no effect with restartStrategy.type ${type}: remove it or write ${needed}`;
    faults.add(faults.nameOf(shown) === shown ? path : shown, problem);
  }
};

const webhook: Rule = ({ spec }, faults) => {
  const hook = spec.action?.webhook;
  const path = 'spec.action.webhook';
  for (const name of Object.keys(hook?.headers ?? {})) {
    const header = `${path}.headers.${name}`;
    if (!new RegExp(HEADER_NAME).test(name))
      faults.add(header, 'is no valid header name: remove it');
    else if (new RegExp(OWN_HEADERS).test(name.toLowerCase()))
      faults.add(header, 'is set by the webhook itself: remove it');
  }
  if (hook?.signingSecretFile !== undefined && hook.signingSecretRef !== undefined) {
    faults.add(`${path}.signingSecretFile`, 'stands beside signingSecretRef: remove one of them');
  }
};

const profileApi: Rule = ({ spec }, faults) => {
  const url = spec.state?.profileApi?.url;
  if (url === undefined || new URL(url).search === '') return;
  const problem = `is ${url}: remove the query, the path /users/ID/... is appended to it`;
  faults.add('spec.state.profileApi.url', problem);
};

const RULES: readonly Rule[] = [
  parallelismAndMemory,
  resources,
  waits,
  heartbeat,
  leaderElection,
  ports,
  strategies,
  webhook,
  profileApi,
  connectionRules,
  locationRules,
  s3Rules,
  kubernetesRules,
];

/** Adds a fault for each broken rule. */
export function checkRules(input: RuleInput, faults: Faults): void {
  for (const rule of RULES) rule(input, faults);
}
