/** What every case sees; whole numbers are longs and others doubles, as in the filter. */
export const ENVIRONMENT = {
  event: {
    triggerable: true,
    event_name: 'buy',
    amount: 12.5,
    n: 7,
    zero: 0,
    tags: ['a', 'b'],
    s: 'hello',
    nul: null,
    nested: { x: { y: 3 } },
  },
  user: { country: 'US', age: 30 },
  visit: null,
  history: [
    { event_name: 'a', n: 1 },
    { event_name: 'b', n: 2 },
  ],
};
