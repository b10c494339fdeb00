/** Cost of finding the routing key: `node bench/key-scan.ts`. Prints nanoseconds per event. */
import { KeyRouter } from '../worker/src/source/key-router.ts';
import { RecordColumns } from '../worker/src/source/record-columns.ts';

const ROUNDS = 5;
const EVENTS = 200_000;
/** Many events one after the other, as a reader sees them: a single one would sit in L1. */
const COPIES = 4_096;

const short =
  '{"event_id":123456,"user_id":"u0000000042","event_name":"page_view","triggerable":true,' +
  '"timestamp":1700000000000,"page":"/p/7f3a9c21","seq":42}';
const long = `${short.slice(0, -1)},"properties":{"text":"${'lorem ipsum '.repeat(130)}"}}`;
const late = `{"properties":{"text":"${'lorem ipsum '.repeat(130)}"},${short.slice(1)}`;
const escaped = `${short.slice(0, -1)},"title":"a \\"quoted\\" word"}`;

function measure(name: string, text: string, find: (row: number) => unknown): void {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage();
    for (let index = 0; index < EVENTS; index++) find(index % COPIES);
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, ((user + system) * 1000) / EVENTS);
  }
  console.log(`${name.padEnd(34)} ${String(text.length).padStart(5)} B ${best.toFixed(0)} ns`);
}

for (const [name, text] of [
  ['short', short],
  ['short, with escapes', escaped],
  ['long, key early', long],
  ['long, key late', late],
] as const) {
  const value = Buffer.from(text);
  const records = RecordColumns.of(
    Array.from({ length: COPIES }, (_, offset) => ({ offset, timestamp: -1, value })),
  );
  const { bytes, starts, ends } = records;
  const router = new KeyRouter('user_id', 128);
  measure(`KeyRouter ${name}`, text, (row) => {
    return router.keyGroup(records, starts[row]!, ends[row]!);
  });
  measure(`JSON.parse ${name}`, text, (row) => {
    return JSON.parse(bytes.toString('utf8', starts[row], ends[row])).user_id;
  });
}
