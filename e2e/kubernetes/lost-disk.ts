/**
 * A node that is lost with a disk, on a cluster of one node: a second Node object, and a volume
 * that can be reached from there alone and waits for the claim of one TaskManager. When its pod is
 * made anew, the claim gets that volume. Then the Node object is deleted.
 */
import assert from 'node:assert/strict';
import type { KubeClient } from '../../operator/src/kube/client.ts';
import {
  KINDS,
  type Node,
  type PersistentVolume,
  type PersistentVolumeClaim,
  type Pod,
  refOf,
} from '../../operator/src/kube/objects.ts';
import { NODE_NAME } from '../testbed/kubernetes/node-configuration.ts';
import type { ClusterMirror } from './cluster-mirror.ts';
import { JOB, type LabStage, NAMESPACE } from './lab-stage.ts';

const LOST_NODE = 'lost-node';
const LOST_VOLUME = 'disk-of-lost-node';
const POD = `${JOB}-taskmanager-1`;
const CLAIM = `local-${POD}`;
const OTHER_CLAIM = `local-${JOB}-taskmanager-0`;
const HOST_LABEL = 'kubernetes.io/hostname';
/** decide/disks.ts: from one claim that was made anew to the next that is given up. */
const BUDGET_SECONDS = 60;

export class LostDisk {
  readonly #stage: LabStage;
  readonly #client: KubeClient;
  readonly #mirror: ClusterMirror;
  #claimedAt = 0;
  #otherClaim = '';

  constructor(stage: LabStage, client: KubeClient, mirror: ClusterMirror) {
    this.#stage = stage;
    this.#client = client;
    this.#mirror = mirror;
  }

  /** Resolves when the pod waits for a disk of a node that is gone. */
  async lose(): Promise<void> {
    const [pod, claim] = [this.#pod, this.#claim(CLAIM)];
    assert.ok(pod && claim, `${POD} and ${CLAIM} are there`);
    this.#otherClaim = this.#claim(OTHER_CLAIM)?.metadata.uid ?? '';
    const lost = await this.#client.create(node());
    const conditions = [{ type: 'Ready', status: 'True' }];
    await this.#client.patch(refOf(lost), { status: { conditions } }, 'status');
    await this.#client.create(volume(claim));
    // Nobody may make another volume for the claim before it has found this one.
    const { apiVersion, kind } = lost;
    const cordon = (unschedulable: boolean) =>
      this.#client.patch({ apiVersion, kind, name: NODE_NAME }, { spec: { unschedulable } });
    await cordon(true);
    for (const object of [claim, pod]) await this.#client.delete(refOf(object));
    await this.#stage.until('the claim to be bound to the lost disk', () => {
      const now = this.#claim(CLAIM);
      return now?.spec?.volumeName === LOST_VOLUME && now.status?.phase === 'Bound';
    });
    await this.#stage.until('the pod to wait', () => {
      const waits = this.#pod?.status?.phase === 'Pending';
      return waits && this.#pod?.metadata.uid !== pod.metadata.uid;
    });
    this.#claimedAt = createdAt(this.#claim(CLAIM));
    await cordon(false);
    await this.#client.delete(refOf(lost));
  }

  async untilReplaced(): Promise<void> {
    await this.#stage.until('the pod to have another disk', () => {
      const { volumeName = LOST_VOLUME } = this.#claim(CLAIM)?.spec ?? {};
      return volumeName !== LOST_VOLUME && this.#pod?.status?.phase === 'Running';
    });
  }

  /** It was told, nobody else's disk was touched, and not before its time. */
  async check(): Promise<void> {
    const reasons = ['--field-selector', 'reason=LocalDiskLost', '-o', 'jsonpath={.items[*].note}'];
    const note = await this.#stage.kubectl('get', 'events.events.k8s.io', ...reasons);
    assert.match(note, new RegExp(`${POD} waits for volume ${LOST_VOLUME}.*${CLAIM} is deleted`));
    assert.equal(this.#claim(OTHER_CLAIM)?.metadata.uid, this.#otherClaim);
    const waited = (createdAt(this.#claim(CLAIM)) - this.#claimedAt) / 1000;
    assert.ok(waited >= BUDGET_SECONDS, `given up after ${waited} s`);
  }

  get #pod(): Pod | undefined {
    return this.#mirror.cache<Pod>('Pod').get(NAMESPACE, POD);
  }

  #claim(name: string): PersistentVolumeClaim | undefined {
    const claims = this.#mirror.cache<PersistentVolumeClaim>('PersistentVolumeClaim');
    return claims.get(NAMESPACE, name);
  }
}

/** In ms, of whole seconds. */
const createdAt = (claim: PersistentVolumeClaim | undefined): number =>
  Date.parse(claim?.metadata.creationTimestamp ?? '');

function node(): Node {
  const { apiVersion, kind } = KINDS.Node;
  const metadata = { name: LOST_NODE, labels: { [HOST_LABEL]: LOST_NODE } };
  return { apiVersion, kind, metadata, spec: { unschedulable: true } };
}

function volume({ spec = {} }: PersistentVolumeClaim): PersistentVolume {
  const { apiVersion, kind } = KINDS.PersistentVolume;
  const { storageClassName = '', accessModes = [], resources } = spec;
  const there = { key: HOST_LABEL, operator: 'In', values: [LOST_NODE] };
  return {
    apiVersion,
    kind,
    metadata: { name: LOST_VOLUME },
    spec: {
      capacity: resources?.requests ?? {},
      accessModes,
      storageClassName,
      persistentVolumeReclaimPolicy: 'Retain',
      claimRef: { namespace: NAMESPACE, name: CLAIM },
      local: { path: '/lost' },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [there] }] } },
    },
  };
}
