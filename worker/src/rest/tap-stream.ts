/** A live tap as events: `record`, `skipped` with a count, and at last `end` with the reason. */
import type { TapSink } from '../jobmanager/tap-session.ts';
import type { TappedRecord } from '../rpc/inspection.ts';
import type { Env } from '../runtime/env.ts';
import { EventStream, type StreamResponse } from './event-stream.ts';

/** Writes what `open` brings to `response`; the tap ends when its client goes. */
export function streamTap(
  response: StreamResponse,
  env: Env,
  open: (sink: TapSink) => { close(): void },
): void {
  let skipped = 0;
  let tap: { close(): void } | null = null;
  const tellSkipped = () => {
    if (skipped > 0 && stream.send('skipped', `{"count":${skipped}}`)) skipped = 0;
  };
  const stream: EventStream = new EventStream(response, env, tellSkipped, () => tap?.close());
  tap = open({
    record: (record: TappedRecord) => {
      tellSkipped();
      if (skipped > 0 || !stream.send('record', recordText(record))) skipped++;
    },
    skipped: (count) => {
      skipped += count;
      tellSkipped();
    },
    end: (reason) => {
      tellSkipped();
      stream.send('end', JSON.stringify({ reason }));
      stream.end();
    },
  });
}

/** Event, user and visit go in as they are. */
function recordText({ event, user, visit, verdict, reason, ...place }: TappedRecord): string {
  const enriched = user === undefined ? '' : `,"user":${user},"visit":${visit ?? 'null'}`;
  const judged = JSON.stringify({ verdict, reason }).slice(1);
  return `${JSON.stringify(place).slice(0, -1)},"event":${event}${enriched},${judged}`;
}
