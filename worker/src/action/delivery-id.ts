/** The id of a delivery or dead letter (P30): the same for every retry and replay of one record. */
import { hash } from 'node:crypto';

/**
 * 32 hex digits. `sourceId` and `splitId` are those of the split (source.ts), `action` names what
 * is done with the record (`webhook`, `debug`, or a dead letter's stage).
 *
 * Never change this function: receivers deduplicate by the id, so another encoding makes every
 * entry of a restored outbox look new. The two free texts bear their length, so that no pair of
 * different records can spell the same input.
 */
export function deliveryId(
  lineage: string,
  sourceId: string,
  splitId: string,
  offset: number,
  action: string,
): string {
  const source = `${lineage}\n${sourceId.length}:${sourceId}\n${splitId.length}:${splitId}`;
  return hash('sha256', `${source}\n${offset}\n${action}`, 'hex').slice(0, 32);
}
