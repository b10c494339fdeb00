/** ns per evaluation of the filters: `npx node bench/filter.ts [rounds in millions]`. */
import { compileFilter } from '../worker/src/filter/compile.ts';
import { type FilterScope, plainScope } from '../worker/src/filter/filter.ts';

const MILLIONS = Number(process.argv[2] ?? 5);
const REPEATS = 5;
/** Distinct events, so that no branch is always the same. */
const SCOPES = 1_024;

const SCRIPTS = [
  ['aviator', 'event.triggerable && user.country == "US"'],
  ['aviator', 'if (event.triggerable && user.country == "US") { return true; }\nreturn false;'],
  ['filtrex', 'event.triggerable and user.country == "US"'],
  ['aviator', 'event.amount > 50 && user.age >= 18 && event.event_name =~ /purchase.*/'],
  ['aviator', 'count(filter(history, lambda(h) -> h.event_name == "view" end)) >= 3'],
  [
    'aviator',
    'let n = 0; for h in history { if (h.event_name == "view") { n = n + 1; } } return n >= 3;',
  ],
] as const;

function scope(i: number): FilterScope {
  const text = JSON.stringify({
    user_id: `u${i}`,
    event_name: i % 3 === 0 ? 'purchase_done' : 'view',
    triggerable: i % 2 === 0,
    timestamp: 1_760_000_000_000 + i,
    amount: i % 100,
  });
  const user = JSON.stringify({ name: `n${i}`, country: i % 4 < 2 ? 'US' : 'CA', age: i % 60 });
  const history = Array.from({ length: 20 }, (_, n) => ({
    event_name: n % 2 === 0 ? 'view' : 'buy',
  }));
  const parts = { event: JSON.parse(text), user: JSON.parse(user), visit: null };
  return plainScope({ ...parts, history });
}

const scopes = Array.from({ length: SCOPES }, (_, i) => scope(i));

for (const [language, script] of SCRIPTS) {
  const filter = compileFilter({ language, script, origin: 'bench', stepBudget: 100_000 });
  const isHeavy = script.includes('history');
  const rounds = (MILLIONS * 1_000_000) / (isHeavy ? 20 : 1);
  let best = Number.POSITIVE_INFINITY;
  let matched = 0;
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    matched = 0;
    const start = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) {
      if (filter.evaluate(scopes[i & (SCOPES - 1)] as FilterScope).match) matched++;
    }
    best = Math.min(best, Number(process.hrtime.bigint() - start) / rounds);
  }
  const share = ((100 * matched) / rounds).toFixed(0);
  const shown = script.replaceAll('\n', ' ').slice(0, 90);
  const columns = [
    `${best.toFixed(1)} ns`.padStart(11),
    language.padEnd(7),
    `${share.padStart(3)} %`,
  ];
  process.stdout.write(`${columns.join('  ')} match  ${shown}\n`);
}
