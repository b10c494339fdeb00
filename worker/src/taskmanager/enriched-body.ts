/**
 * The enriched event, as the webhook gets it: user, visit and history as they were before the
 * event. Texts go in byte for byte, from the frame and the user's blocks: 16 KB as a string first
 * would be made, flattened and encoded for each match.
 */
import type { RowReader, UserState } from '../state/user-state.ts';

const EVENT = Buffer.from('{"event":');
const USER = Buffer.from(',"user":');
const VISIT = Buffer.from(',"visit":');
const HISTORY = Buffer.from(',"history":[');
const END = Buffer.from(']}');
const FIXED_BYTES = EVENT.length + USER.length + VISIT.length + HISTORY.length + END.length;

export function enrichedBody(
  user: UserState,
  event: { source: Buffer; start: number; end: number },
  read: RowReader,
  take: (bytes: number) => Buffer,
): Buffer {
  const { source, start, end } = event;
  const texts = user.texts(read);
  const visit = JSON.stringify(user.visit(read));
  const visitBytes = Buffer.byteLength(visit);
  const history = user.openHistory(read);
  const variable = end - start + texts.profileBytes + visitBytes + history.joinedBytes;
  const body = take(FIXED_BYTES + variable);
  let at = EVENT.copy(body);
  at += source.copy(body, at, start, end);
  at += USER.copy(body, at);
  at = texts.copyProfile(body, at);
  at += VISIT.copy(body, at);
  at += body.write(visit, at);
  at += HISTORY.copy(body, at);
  at = history.copyJoined(body, at);
  END.copy(body, at);
  return body;
}
