/**
 * Import this first: zstd without its thread pool. A pool thread ends in real time, so which of two
 * tasks goes on first would differ between runs of one seed. The writer keeps a block raw when
 * compressing did not make it smaller, so handing back the input is an answer it knows; the real
 * codec has its tests in checkpoint/segment.test.ts.
 */
import { syncBuiltinESMExports } from 'node:module';
import zlib from 'node:zlib';

type Done = (fault: Error | null, result: Buffer) => void;

Object.assign(zlib, {
  zstdCompress: (input: Buffer, _options: object, done: Done) => {
    queueMicrotask(() => done(null, input));
  },
});
syncBuiltinESMExports();
