/** Cost of finding the routing key: `node bench/key-scan.ts`. Prints nanoseconds per event. */
import { routingKey, scanKey } from '../worker/src/source/key-scan.ts';

const ROUNDS = 5;
const EVENTS = 200_000;
/** Many different buffers, as a reader sees them: one buffer read again and again sits in L1. */
const COPIES = 4_096;

const short =
  '{"event_id":123456,"user_id":"u0000000042","event_name":"page_view","triggerable":true,' +
  '"timestamp":1700000000000,"page":"/p/7f3a9c21","seq":42}';
const long = `${short.slice(0, -1)},"properties":{"text":"${'lorem ipsum '.repeat(130)}"}}`;
const late = `{"properties":{"text":"${'lorem ipsum '.repeat(130)}"},${short.slice(1)}`;

function measure(name: string, text: string, find: (value: Buffer) => unknown): void {
  const values = Array.from({ length: COPIES }, () => Buffer.from(text));
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    for (let index = 0; index < EVENTS; index++) find(values[index % COPIES]!);
    best = Math.min(best, Number(process.hrtime.bigint() - start) / EVENTS);
  }
  console.log(`${name.padEnd(34)} ${String(text.length).padStart(5)} B ${best.toFixed(0)} ns`);
}

for (const [name, text] of [
  ['short', short],
  ['long, key early', long],
  ['long, key late', late],
] as const) {
  measure(`scanKey ${name}`, text, (value) => scanKey(value, 'user_id'));
  measure(`routingKey ${name}`, text, (value) => routingKey(value, 'user_id'));
  measure(`JSON.parse ${name}`, text, (value) => JSON.parse(value.toString('utf8')).user_id);
}
