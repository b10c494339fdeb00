/** Numbers of command lines. Each throws an Error that says what to write. */

export function wholeNumber(name: string, given: string | number): number {
  const number = Number(given);
  if (Number.isInteger(number) && number > 0) return number;
  throw new Error(`${name} is "${given}": write a whole number of 1 or more`);
}

/** `1000,10000`. */
export function wholeNumbers(name: string, given: string): number[] {
  return given.split(',').map((one) => wholeNumber(name, one));
}

export function positiveNumber(name: string, given: string): number {
  const number = Number(given);
  if (Number.isFinite(number) && number > 0) return number;
  throw new Error(`${name} is "${given}": write a number above 0`);
}
