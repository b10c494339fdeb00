/** Makes the plan of a spec that has no faults. Decides nothing: rules.ts has judged everything. */
import { bytes, type CompleteSpec, memoryOf, minPauseMs, ms, parallelismOf } from './derived.ts';
import type {
  ActionPlan,
  DeadLetterPlan,
  JobPlan,
  LeaderElectionPlan,
  ProfileApiPlan,
  RestartStrategyPlan,
  SourcePlan,
  StatePlan,
} from './job-plan.ts';
import { kafkaConnection, kafkaSource } from './kafka-rules.ts';
import { locationsOf } from './location-rules.ts';
import { resolvePath } from './locations.ts';
import { s3Plan } from './s3-rules.ts';
import type { CompleteTriggerJob } from './schema.ts';
import { type Site, secretPath } from './site.ts';

/** The text of the filter and where it came from, for messages. */
export interface ScriptText {
  text: string;
  origin: string;
}

/** Null when the memory can't be divided: checkRules has said so before. */
export function buildPlan(job: CompleteTriggerJob, script: ScriptText, site: Site): JobPlan | null {
  const { spec } = job;
  const { name, namespace } = job.metadata;
  const parallelism = parallelismOf(spec, () => false);
  const division = parallelism === null ? null : memoryOf(spec, parallelism);
  if (parallelism === null || division === null || 'problems' in division) return null;
  const { directory, savepointDirectory, restoreSavepoint, localStateDir } = locationsOf(
    spec,
    site,
  );
  const intervalMs = ms(spec.checkpointing.interval);
  return {
    name,
    namespace,
    parallelism: parallelism.parallelism,
    maxParallelism: spec.maxParallelism,
    slotsPerTaskManager: parallelism.slots,
    taskManagers: parallelism.taskManagers,
    source: sourceOf(spec, `triggerjob.${namespace}.${name}`, site),
    keyBy: spec.keyBy,
    state: stateOf(spec),
    filter: {
      language: spec.filter.language,
      script: script.text,
      origin: script.origin,
      stepBudget: spec.filter.stepBudget,
    },
    action: actionOf(spec, site),
    deadLetter: deadLetterOf(spec, site),
    checkpointing: {
      intervalMs,
      timeoutMs: ms(spec.checkpointing.timeout),
      minPauseMs: minPauseMs(intervalMs, spec.checkpointing.minPause),
      tolerableFailures: spec.checkpointing.tolerableFailures,
      retained: spec.checkpointing.retained,
      directory,
      s3: s3Plan(spec.checkpointing.s3, site),
    },
    savepointDirectory,
    periodicSavepoints: {
      everyMs: spec.savepoints.periodic === undefined ? null : ms(spec.savepoints.periodic),
      maxCount: spec.savepoints.maxCount,
    },
    restoreSavepoint,
    restartStrategy: restartStrategyOf(spec),
    selectiveReplay: spec.restartStrategy.failover === 'region',
    scaling: {
      resourceWaitMs: ms(spec.scaling.resourceWait),
      stabilizationMs: ms(spec.scaling.stabilization),
      minIntervalMs: ms(spec.scaling.minInterval),
    },
    memory: division.plan,
    heartbeatIntervalMs: ms(spec.heartbeat.interval),
    heartbeatTimeoutMs: ms(spec.heartbeat.timeout),
    jobManagers: spec.jobManager.replicas,
    leaderElection: leaderElectionOf(spec),
    bufferBytes: bytes(spec.exchange.bufferSize),
    bufferTimeoutMs: ms(spec.exchange.bufferTimeout),
    localStateDir,
    rest: endpointOf(spec.jobManager.rest, site),
    rpc: endpointOf(spec.jobManager.rpc, site),
    internalTls: spec.security.internal.enabled,
    dataPort: spec.taskManager.dataPort,
  };
}

/**
 * Grace (P38): a lease to find the leader gone, a heartbeat timeout for the TaskManager to notice
 * and reach the next one, and a lease for the takeover itself: reading the log, or the start of a
 * process where there is no standby.
 */
function leaderElectionOf(spec: CompleteSpec): LeaderElectionPlan {
  const { lease, renewDeadline, retryPeriod } = spec.jobManager.leaderElection;
  return {
    leaseMs: ms(lease),
    renewDeadlineMs: ms(renewDeadline),
    retryMs: ms(retryPeriod),
    graceMs: 2 * ms(lease) + ms(spec.heartbeat.timeout),
  };
}

/** A laptop's ports are nobody else's; a pod's must be reachable. */
function endpointOf(
  endpoint: { port: number; bindAddress?: string },
  site: Site,
): { port: number; bindAddress: string } {
  const everywhere = site.stateDir === null ? '0.0.0.0' : '127.0.0.1';
  return { port: endpoint.port, bindAddress: endpoint.bindAddress ?? everywhere };
}

function sourceOf({ source }: CompleteSpec, groupId: string, site: Site): SourcePlan {
  const { kafka, datagen, file } = source;
  if (kafka) {
    return {
      ...kafkaSource(kafka, groupId, site),
      discoveryIntervalMs: ms(kafka.discoveryInterval),
      discoveryHoldMs: ms(kafka.discoveryHold),
      maxRecordBytes: bytes(kafka.maxRecordBytes),
    };
  }
  if (datagen) {
    return {
      kind: 'datagen',
      ...datagen,
      limit: datagen.limit ?? null,
      maxRecordBytes: bytes(datagen.maxRecordBytes),
    };
  }
  const paths = (file?.paths ?? []).map((path) => resolvePath(path, site.baseDir) ?? path);
  return { kind: 'file', paths, maxRecordBytes: bytes(file?.maxRecordBytes ?? 0) };
}

function stateOf({ state }: CompleteSpec): StatePlan {
  return {
    ttlMs: ms(state.ttl),
    ttlGraceMs: ms(state.ttlGrace),
    allowedSkewMs: ms(state.allowedSkew),
    historyMaxEvents: state.history.maxEvents,
    maxBytesPerUser: bytes(state.maxBytesPerUser),
    profileApi: state.profileApi ? profileApiOf(state.profileApi) : null,
  };
}

function profileApiOf(api: NonNullable<CompleteSpec['state']['profileApi']>): ProfileApiPlan {
  return {
    url: api.url.replace(/\/+$/, ''),
    timeoutMs: ms(api.timeout),
    maxConcurrent: api.maxConcurrent,
    maxResponseBytes: bytes(api.maxResponseBytes),
    onError: api.onError,
    maxAttempts: api.maxAttempts,
    initialBackoffMs: ms(api.initialBackoff),
    maxBackoffMs: ms(api.maxBackoff),
  };
}

function actionOf({ action }: CompleteSpec, site: Site): ActionPlan {
  const hook = action.webhook;
  if (!hook) return { kind: 'debug' };
  const { signingSecretFile: file, signingSecretRef: ref } = hook;
  const secret = ref
    ? secretPath(ref.name, ref.key)
    : file === undefined
      ? null
      : (resolvePath(file, site.baseDir) ?? file);
  return {
    kind: 'webhook',
    url: hook.url,
    timeoutMs: ms(hook.timeout),
    deadlineMs: ms(hook.deadline),
    maxInFlight: hook.maxInFlight,
    initialBackoffMs: ms(hook.initialBackoff),
    maxBackoffMs: ms(hook.maxBackoff),
    allowPrivateAddresses: hook.allowPrivateAddresses,
    headers: { ...hook.headers },
    signingSecret: secret === null ? null : { path: secret },
  };
}

function deadLetterOf({ deadLetter, source }: CompleteSpec, site: Site): DeadLetterPlan {
  const { kafka, file } = deadLetter ?? {};
  if (file) return { kind: 'file', path: resolvePath(file.path, site.baseDir) ?? file.path };
  if (!kafka) return { kind: 'store' };
  const servers = kafka.bootstrapServers ?? source.kafka?.bootstrapServers ?? '';
  // The source's credentials go with the source's brokers, never to others.
  const own = kafka.bootstrapServers !== undefined || kafka.tls || kafka.sasl || !source.kafka;
  const connection = kafkaConnection(servers, own ? kafka : (source.kafka ?? kafka), site);
  return { kind: 'kafka', connection, topic: kafka.topic };
}

function restartStrategyOf({ restartStrategy }: CompleteSpec): RestartStrategyPlan {
  const { type, exponentialDelay, fixedDelay, failureRate } = restartStrategy;
  switch (type) {
    case 'none':
      return { type };
    case 'fixed-delay':
      return { type, attempts: fixedDelay.attempts, delayMs: ms(fixedDelay.delay) };
    case 'failure-rate':
      return {
        type,
        maxFailures: failureRate.maxFailures,
        intervalMs: ms(failureRate.interval),
        delayMs: ms(failureRate.delay),
      };
    case 'exponential-delay':
      return {
        type,
        initialMs: ms(exponentialDelay.initialBackoff),
        maxMs: ms(exponentialDelay.maxBackoff),
        multiplier: exponentialDelay.multiplier,
        jitter: exponentialDelay.jitter,
        resetAfterMs: ms(exponentialDelay.resetAfter),
      };
  }
}
