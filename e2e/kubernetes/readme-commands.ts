/** The commands of one section of README.md, as a user would type them. */
import { readFile } from 'node:fs/promises';

const README = new URL('../../README.md', import.meta.url);
/** A line of a code block that begins with a prompt. */
const COMMAND = /^ {4}\$ (.+)$/;
const COMMENT = / {2,}#.*$/;

/** In order, without their comments. Throws where there is no such section or nothing in it. */
export async function readmeCommands(heading: string): Promise<string[]> {
  const lines = (await readFile(README, 'utf8')).split('\n');
  const from = lines.indexOf(`## ${heading}`);
  if (from < 0) throw new Error(`README.md has no section "${heading}"`);
  const length = lines.slice(from + 1).findIndex((line) => line.startsWith('## '));
  const section = lines.slice(from + 1, length < 0 ? undefined : from + 1 + length);
  const commands = section.flatMap((line) => COMMAND.exec(line)?.[1]?.replace(COMMENT, '') ?? []);
  if (commands.length === 0) throw new Error(`README.md has no commands in "${heading}"`);
  return commands;
}
