/** A live tap as events: `record`, `skipped` with a count, and at last `end` with the reason. */
import type { TapSink } from '../jobmanager/tap-session.ts';
import type { TappedRecord } from '../rpc/inspection.ts';
import type { Env } from '../runtime/env.ts';
import { EventStream, type StreamResponse } from './event-stream.ts';

/**
 * Writes what `open` brings to `response`; the tap ends when its client goes. What `open` throws
 * comes before any byte of the response.
 */
export function streamTap(
  response: StreamResponse,
  env: Env,
  open: (sink: TapSink) => { close(): void },
): void {
  let skipped = 0;
  let stream: EventStream | null = null;
  const send = (event: string, json: string) => stream?.send(event, json) ?? false;
  const tellSkipped = () => {
    if (skipped > 0 && send('skipped', `{"count":${skipped}}`)) skipped = 0;
  };
  const tap = open({
    record: (record: TappedRecord) => {
      tellSkipped();
      if (skipped > 0 || !send('record', recordText(record))) skipped++;
    },
    skipped: (count) => {
      skipped += count;
      tellSkipped();
    },
    end: (reason) => {
      tellSkipped();
      send('end', JSON.stringify({ reason }));
      stream?.end();
    },
  });
  try {
    stream = new EventStream(response, env, tellSkipped, () => tap.close());
  } catch (error) {
    tap.close();
    throw error;
  }
}

/** Event, user and visit go in as they are. */
function recordText({ event, user, visit, verdict, reason, ...place }: TappedRecord): string {
  const enriched = user === undefined ? '' : `,"user":${user},"visit":${visit ?? 'null'}`;
  const judged = JSON.stringify({ verdict, reason }).slice(1);
  return `${JSON.stringify(place).slice(0, -1)},"event":${event}${enriched},${judged}`;
}
