/** A watch's body: JSON, one event a line, cut into chunks anywhere. */
import { KubeError } from './kube-error.ts';

/** etcd refuses objects above 1.5 MiB; escapes and the old version in an event double that. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;

/** Yields whole lines; a last line without its end is dropped: it is half an event. */
export async function* linesOf(
  chunks: AsyncIterable<Buffer>,
  onBytes: () => void,
): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let held = 0;
  for await (const chunk of chunks) {
    onBytes();
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const tail = chunk.subarray(start, end);
      const line = parts.length === 0 ? tail : Buffer.concat([...parts, tail]);
      parts = [];
      held = 0;
      start = end + 1;
      if (line.length > 0) yield line.toString('utf8');
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    held += chunk.length - start;
    if (held > MAX_LINE_BYTES) {
      throw new KubeError('KUBE_UNAVAILABLE', `a watch event of more than ${MAX_LINE_BYTES} bytes`);
    }
  }
}
