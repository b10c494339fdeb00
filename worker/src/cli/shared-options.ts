/** Options that several commands have, and what a command is given to be added with. */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import { messageOf } from '../runtime/errors.ts';
import { REST_TOKEN_VARIABLE } from './rest-client.ts';

/** The exit code of the command that ran. */
export interface Outcome {
  code: number;
}

export type OutputFormat = 'text' | 'json';

const DEFAULT_REST = 'http://127.0.0.1:8081';

export const outputOption = (): Option =>
  new Option('-o, --output <format>', 'how to print').choices(['text', 'json']).default('text');

export const restOption = (): Option =>
  new Option('--rest <url>', 'REST API of the JobManager')
    .default(DEFAULT_REST)
    .argParser((text: string) => text.replace(/\/+$/, ''));

/**
 * A file, since an option's value is seen by every user of the machine. Its first line becomes
 * TRIGGERJOB_TOKEN of this process, which is where rest-client.ts looks.
 */
export const tokenFileOption = (): Option =>
  new Option(
    '--token-file <file>',
    `bearer token for REST, its first line (default: $${REST_TOKEN_VARIABLE})`,
  ).argParser((path: string) => {
    let token: string;
    try {
      token = readFileSync(path, 'utf8').split('\n')[0]!.trim();
    } catch (error) {
      throw new InvalidArgumentError(`it can't be read: ${messageOf(error)}`);
    }
    if (token === '') throw new InvalidArgumentError('its first line is empty.');
    process.env[REST_TOKEN_VARIABLE] = token;
    return path;
  });

export function integerFrom(lowest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= lowest && Number.isSafeInteger(value)) return value;
    throw new InvalidArgumentError(`expected a whole number from ${lowest} on.`);
  };
}
