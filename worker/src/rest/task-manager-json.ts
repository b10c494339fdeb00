/** TaskManagers in the shapes of Flink's REST API: its memory model over the plan's. Pure. */
import type { JobView, TaskManagerView } from '../jobmanager/job-view.ts';
import { LIMIT_SUFFIX } from '../runtime/bound.ts';
import type { JsonObject } from '../runtime/json.ts';
import { RestError } from './rest-error.ts';

const MB = 1024 * 1024;

/** The one that the path names. Throws RestError 404. */
export function taskManagerOf(
  view: JobView,
  params: Readonly<Record<string, string>>,
): TaskManagerView {
  const asked = params['taskmanagerid'];
  const found = view.taskManagers.find(({ id }) => id === asked);
  if (found === undefined) throw new RestError(404, `Could not find TaskManager with id ${asked}.`);
  return found;
}

export function taskManagers(view: JobView): JsonObject {
  return { taskmanagers: view.taskManagers.map((one) => taskManagerJson(view, one)) };
}

export function taskManagerDetails(
  view: JobView,
  params: Readonly<Record<string, string>>,
): JsonObject {
  const taskManager = taskManagerOf(view, params);
  const own = view.tasks.filter((task) => task.taskManagerId === taskManager.id);
  return {
    ...taskManagerJson(view, taskManager),
    metrics: processMetrics(view, taskManager),
    allocatedSlots: own.map(() => ({ jobId: view.jobId, resource: resources(view, 1) })),
  };
}

function taskManagerJson(view: JobView, taskManager: TaskManagerView): JsonObject {
  const { processBytes, managedBytes } = view.plan.memory;
  const { metrics, slots, freeSlots } = taskManager;
  const limit = metrics?.memoryLimitBytes || processBytes;
  return {
    id: taskManager.id,
    path: `${taskManager.host}:${taskManager.pid}`,
    dataPort: taskManager.dataPort,
    jmxPort: -1,
    // Wall time of the last heartbeat, as Flink means it in spite of the name.
    timeSinceLastHeartbeat: view.now - taskManager.sinceHeartbeatMs,
    slotsNumber: slots,
    freeSlots,
    totalResource: resources(view, slots),
    freeResource: resources(view, freeSlots),
    hardware: {
      cpuCores: metrics?.cores ?? 0,
      physicalMemory: limit,
      freeMemory: Math.max(0, limit - (metrics?.rssBytes ?? 0)),
      managedMemory: managedBytes,
    },
    memoryConfiguration: memoryConfiguration(view),
    blocked: false,
  };
}

/** Of so many slots; memory in MB. */
function resources({ plan }: JobView, slots: number): JsonObject {
  const { heapBytes, managedBytes, networkBytes } = plan.memory;
  const share = (bytes: number) => Math.floor(((bytes / plan.slotsPerTaskManager) * slots) / MB);
  return {
    cpuCores: slots,
    taskHeapMemory: share(heapBytes),
    taskOffHeapMemory: 0,
    managedMemory: share(managedBytes),
    networkMemory: share(networkBytes),
    extendedResources: {},
  };
}

/** Bytes. Flink's parts that a process without a JVM has not are 0. */
function memoryConfiguration({ plan }: JobView): JsonObject {
  const { processBytes, heapBytes, managedBytes, networkBytes } = plan.memory;
  const used = heapBytes + managedBytes + networkBytes;
  return {
    frameworkHeap: 0,
    taskHeap: heapBytes,
    frameworkOffHeap: 0,
    taskOffHeap: 0,
    networkMemory: networkBytes,
    managedMemory: managedBytes,
    jvmMetaspace: 0,
    jvmOverhead: Math.max(0, processBytes - used),
    totalFlinkMemory: used,
    totalProcessMemory: processBytes,
  };
}

function processMetrics({ plan }: JobView, { metrics }: TaskManagerView): JsonObject {
  const { heapBytes, processBytes, networkBytes } = plan.memory;
  const extra = (name: string) =>
    (metrics?.subtasks ?? []).reduce((sum, task) => sum + (task.extra[name] ?? 0), 0);
  const segments = extra(`channel_buffers${LIMIT_SUFFIX}`);
  const used = extra('channel_buffers');
  const heapUsed = metrics?.heapBytes ?? 0;
  const heapCommitted = metrics?.heapTotalBytes ?? 0;
  const nonHeap = Math.max(0, (metrics?.rssBytes ?? 0) - heapCommitted);
  const usedBytes = used * plan.bufferBytes;
  return {
    heapUsed,
    heapCommitted,
    heapMax: heapBytes,
    nonHeapUsed: nonHeap,
    nonHeapCommitted: nonHeap,
    nonHeapMax: Math.max(0, processBytes - heapBytes),
    directCount: 0,
    directUsed: metrics?.externalBytes ?? 0,
    directMax: 0,
    mappedCount: 0,
    mappedUsed: 0,
    mappedMax: 0,
    memorySegmentsAvailable: Math.max(0, segments - used),
    memorySegmentsTotal: segments,
    nettyShuffleMemorySegmentsAvailable: Math.max(0, segments - used),
    nettyShuffleMemorySegmentsUsed: used,
    nettyShuffleMemorySegmentsTotal: segments,
    nettyShuffleMemoryAvailable: Math.max(0, networkBytes - usedBytes),
    nettyShuffleMemoryUsed: usedBytes,
    nettyShuffleMemoryTotal: networkBytes,
    garbageCollectors: [],
  };
}
