/** The JobManager itself in the shapes of Flink's REST API. */
import { getActiveResourcesInfo } from 'node:process';
import type { JobView, TaskManagerView } from '../jobmanager/job-view.ts';
import type { JsonObject } from '../runtime/json.ts';

/** Flink's keys, with the plan's values; nothing secret is in a plan. */
export function configuration({ plan }: JobView): JsonObject[] {
  const { checkpointing, memory } = plan;
  const milliseconds = (ms: number) => `${ms} ms`;
  const bytes = (amount: number) => `${amount} bytes`;
  const values = {
    'execution.checkpointing.dir': checkpointing.directory,
    'execution.checkpointing.interval': milliseconds(checkpointing.intervalMs),
    'execution.checkpointing.max-concurrent-checkpoints': 1,
    'execution.checkpointing.min-pause': milliseconds(checkpointing.minPauseMs),
    'execution.checkpointing.mode': 'EXACTLY_ONCE',
    'execution.checkpointing.num-retained': checkpointing.retained,
    'execution.checkpointing.savepoint-dir': plan.savepointDirectory,
    'execution.checkpointing.timeout': milliseconds(checkpointing.timeoutMs),
    'execution.checkpointing.tolerable-failed-checkpoints': checkpointing.tolerableFailures,
    'heartbeat.interval': milliseconds(plan.heartbeatIntervalMs),
    'heartbeat.timeout': milliseconds(plan.heartbeatTimeoutMs),
    'jobmanager.rpc.port': plan.rpc.port,
    'parallelism.default': plan.parallelism,
    'pipeline.max-parallelism': plan.maxParallelism,
    'rest.bind-address': plan.rest.bindAddress,
    'rest.port': plan.rest.port,
    'restart-strategy.type': plan.restartStrategy.type,
    'security.ssl.internal.enabled': plan.internalTls,
    'state.backend.rocksdb.localdir': plan.localStateDir,
    'state.backend.type': 'rocksdb',
    'taskmanager.memory.managed.size': bytes(memory.managedBytes),
    'taskmanager.memory.network.max': bytes(memory.networkBytes),
    'taskmanager.memory.process.size': bytes(memory.processBytes),
    'taskmanager.memory.segment-size': bytes(plan.bufferBytes),
    'taskmanager.numberOfTaskSlots': plan.slotsPerTaskManager,
  };
  return Object.entries(values).map(([key, value]) => ({ key, value: String(value) }));
}

/** Flink's names for a JVM: here it is Node. */
export function environment(): JsonObject {
  const { version, arch, execArgv } = process;
  return { jvm: { version: `Node.js ${version}`, arch, options: [...execArgv] }, classpath: [] };
}

/** Node tells no stacks of a running thread: what it waits for is what there is. */
export function ownThreads(): JsonObject {
  const waits = Object.entries(Object.groupBy(getActiveResourcesInfo(), (kind) => kind));
  const lines = waits.map(([kind, all]) => `\t${all?.length ?? 0} x ${kind}`);
  const text = ['"main" of the JobManager; its event loop waits for', ...lines].join('\n');
  return { threadInfos: [{ threadName: 'main', stringifiedThreadInfo: `${text}\n` }] };
}

/** The slots' threads by their figures of the last heartbeat. */
export function taskManagerThreads(taskManager: TaskManagerView): JsonObject {
  const threadInfos = (taskManager.metrics?.subtasks ?? []).map((task) => {
    const { slot, subtask, attempt, cpuSeconds, busyMs, idleMs, backPressuredMs } = task;
    const seconds = (ms: number) => (ms / 1_000).toFixed(1);
    const text = [
      `"slot-${slot}" runs subtask ${subtask}, attempt ${attempt}`,
      `\tcpu ${cpuSeconds.toFixed(1)} s, busy ${seconds(busyMs)} s, idle ${seconds(idleMs)} s, ` +
        `backpressured ${seconds(backPressuredMs)} s`,
    ].join('\n');
    return { threadName: `slot-${slot}`, stringifiedThreadInfo: `${text}\n` };
  });
  return { threadInfos };
}
