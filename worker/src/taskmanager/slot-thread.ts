/**
 * The thread of one slot: waits for its task, opens what that needs and joins `SlotTask` to ports
 * and main thread. Crash-only: any fault is reported once and the process ends, because a worker
 * that dies alone would leave its peers waiting on channels that nobody fills.
 */
import { join } from 'node:path';
import { type MessagePort, parentPort } from 'node:worker_threads';
import type { Logger } from 'pino';
import { openActionExecutor, openDeadLetterWriter } from '../action/open.ts';
import { openStore } from '../checkpoint/open-store.ts';
import { jobFolder } from '../checkpoint/paths.ts';
import type { Frame } from '../exchange/frame.ts';
import type { JobPlan } from '../plan/job-plan.ts';
import { type Env, realEnv } from '../runtime/env.ts';
import { invariant, messageOf, TriggerJobError } from '../runtime/errors.ts';
import { EventLoopLag } from '../runtime/event-loop-lag.ts';
import { createLog } from '../runtime/log.ts';
import { createSplitReader } from '../source/open.ts';
import type { ProfileApi } from '../state/profile-api.ts';
import { openRocksDb } from '../state/rocksdb-backend.ts';
import { slotFolder } from './local-state.ts';
import type { PeerMessage, SlotCommand, SlotMessage, SlotStart } from './slot-protocol.ts';
import { SlotTask } from './slot-task.ts';

const METRICS_MS = 500;

async function openTask(start: SlotStart, tell: (message: SlotMessage) => void): Promise<SlotTask> {
  const { plan, task, lineage } = start;
  const env = realEnv;
  const log = createLog(`slot-${task.slot}`, {
    level: start.logLevel,
    job: `${plan.namespace}/${plan.name}`,
    subtask: task.subtask,
    attempt: task.attempt,
  });
  const { directory, s3 } = plan.checkpointing;
  // A task puts and gets; the JobManager, which creates, has probed this very store.
  const store = await openStore(jobFolder(directory, plan), env, { s3, creates: false });
  const local = slotFolder(start.localStateDir, { lineage, ...task });
  const backend = await openRocksDb({
    directory: join(local, 'db'),
    blockCacheBytes: plan.memory.slotBlockCacheBytes,
    memtableBytes: plan.memory.slotMemtableBytes,
  });
  const self = task.subtask;
  const slot: SlotTask = new SlotTask(
    {
      env,
      store,
      backend,
      profileApi: await openProfileApi(plan, env, log),
      action: await openActionExecutor(plan.action, env, log),
      deadLetter: await openDeadLetterWriter(plan.deadLetter, env, store, self, log),
      reader: await createSplitReader(plan.source, env),
      report: (report) => tell({ type: 'report', report }),
      openReader: () => createSplitReader(plan.source, env),
      send: (target, frame, receiver) => {
        if (target === self) slot.receive(self, frame, receiver);
        else sendFrame(start, target, frame, receiver);
      },
      credit: (channel, bytes, receiver) => {
        if (channel === self) slot.credited(self, bytes, receiver);
        else {
          const attempts = { sender: task.attempt, receiver };
          const message: PeerMessage = { type: 'credit', bytes, attempts };
          postPeer(start, channel, message, [bytes.buffer as ArrayBuffer]);
        }
      },
      fault: (fault) => {
        const code = fault instanceof TriggerJobError ? fault.code : 'SLOT_FAULT';
        log.error({ err: fault }, 'slot failed');
        tell({ type: 'fault', code, error: messageOf(fault) });
      },
    },
    { ...start, spoolPath: join(local, 'spool') },
  );
  return slot;
}

/** Loads the HTTP client only for a job that has a Profile API. */
async function openProfileApi(plan: JobPlan, env: Env, log: Logger): Promise<ProfileApi | null> {
  const { profileApi } = plan.state;
  if (profileApi === null) return null;
  const { openHttpProfileApi } = await import('../state/http-profile-api.ts');
  return openHttpProfileApi(profileApi, env, log);
}

function sendFrame(start: SlotStart, target: number, frame: Frame, receiver: number): void {
  const transfer = frame.kind === 'data' ? [frame.bytes.buffer as ArrayBuffer] : [];
  const attempts = { sender: start.task.attempt, receiver };
  postPeer(start, target, { type: 'frame', frame, attempts }, transfer);
}

function postPeer(
  start: SlotStart,
  peer: number,
  message: PeerMessage,
  transfer: ArrayBuffer[],
): void {
  const port = start.peers[peer];
  invariant(port, `no port to subtask ${peer}`);
  port.postMessage(message, transfer);
}

function listen(slot: SlotTask, start: SlotStart): void {
  start.peers.forEach((port, peer) => {
    port?.on('message', (message: PeerMessage) => {
      const { sender } = message.attempts;
      if (message.type === 'frame') slot.receive(peer, message.frame, sender);
      else slot.credited(peer, message.bytes, sender);
    });
  });
}

async function main(main: MessagePort): Promise<void> {
  // Commands behind it wait in the port until somebody listens again.
  const start = await new Promise<SlotStart>((resolve) => main.once('message', resolve));
  // Nothing else keeps the thread alive while it opens its parts: a wait between two tries of the
  // store would end it without a word.
  main.ref();
  const tell = (message: SlotMessage) => main.postMessage(message);
  const slot = await openTask(start, tell);
  const lag = new EventLoopLag(() => realEnv.monotonic());
  const metrics = setIntervalOf(METRICS_MS, () => {
    const usage = process.threadCpuUsage();
    const cpuSeconds = (usage.user + usage.system) / 1e6;
    const eventLoopLagP99Ms = lag.p99Ms();
    tell({ type: 'metrics', metrics: { ...slot.metrics(cpuSeconds), eventLoopLagP99Ms } });
  });
  main.on('message', (command: SlotCommand) => {
    if (command.type !== 'close') {
      obey(slot, command, tell);
      return;
    }
    metrics.cancel();
    lag.close();
    slot
      .close()
      .catch(() => {})
      .finally(() => {
        tell({ type: 'closed' });
        for (const port of start.peers) port?.close();
        main.close();
      });
  });
  listen(slot, start);
  await slot.start();
}

function obey(
  slot: SlotTask,
  command: Exclude<SlotCommand, { type: 'close' }>,
  tell: (message: SlotMessage) => void,
): void {
  switch (command.type) {
    case 'trigger':
      slot.trigger(command.checkpointId, command.triggeredAt, command.script);
      return;
    case 'abort':
      slot.abort(command.checkpointId);
      return;
    case 'hold-sources':
      slot.holdSource(command.held);
      return;
    case 'add-splits':
      slot.addSplits(command.splits);
      return;
    case 'discovered':
      slot.discovered(command.at);
      return;
    case 'describe':
      tell({ type: 'described', task: slot.describe() });
      return;
    case 'detach':
      slot.detach(command.subtasks);
      return;
    case 'replace':
      slot.replace(command.attempts);
      return;
    case 'query':
      tell({ type: 'answer', id: command.id, answer: slot.inspect(command.query) });
      return;
    case 'replay':
      slot.replay(command.positions, command.goals);
  }
}

/** A repeating timer on Env's one-shot ones. */
function setIntervalOf(ms: number, fn: () => void): { cancel(): void } {
  let canceled = false;
  const again = () =>
    realEnv.timer(ms, () => {
      if (canceled) return;
      fn();
      again();
    });
  again();
  return {
    cancel: () => {
      canceled = true;
    },
  };
}

const port = parentPort;
// null: a main thread only loads it, for the compile cache of an image.
if (port !== null) {
  main(port).catch((fault: unknown) => {
    const code = fault instanceof TriggerJobError ? fault.code : 'SLOT_FAULT';
    const message: SlotMessage = { type: 'fault', code, error: messageOf(fault) };
    port.postMessage(message);
  });
}
