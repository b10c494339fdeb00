/** Cases in which we answer otherwise than AviatorScript on purpose, and why. At most ten. */
export const DIFFERENCES: Readonly<Record<string, string>> = {
  'if (event.triggerable && user.country == "US") return true;':
    'ours: the body of an if may be one statement without braces',
  'if (event.triggerable && user.country == "US")':
    'ours: a lone if header is its condition, as the architecture writes it',
  'history[0].event_name': 'ours: a property may follow an index',
  nope: 'a name that nothing declares is refused at load: it is almost surely a typo',
  '1.15':
    'Aviator adds up the digits of a literal and is off by one bit; ours is the nearest double',
  '2 ** 62': 'a long beyond 2^53-1 is an error, never rounded',
  '9007199254740991 + 1': 'a long beyond 2^53-1 is an error, never rounded',
  '1N': 'big integers are outside of the subset',
  '1M': 'decimals are outside of the subset',
  'event.tags[0] = "z"; event.tags[0]': 'a filter has no effects: event data cannot be changed',
};
