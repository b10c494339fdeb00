/**
 * Completion scripts for shells, made from the commands themselves: subcommands, options, and the
 * values of options that have a fixed set; anywhere else, files.
 */
import type { Command, Option } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** One command, under the words that lead to it; '' is the program. */
interface Entry {
  path: string;
  commands: { name: string; description: string }[];
  options: { flags: string[]; description: string; value: boolean; choices: string[] }[];
}

export function completionScript(program: Command, shell: Shell): string {
  const entries = entriesOf(program, '');
  const name = program.name();
  switch (shell) {
    case 'bash':
      return bashScript(name, entries);
    case 'zsh':
      return zshScript(name, entries);
    case 'fish':
      return fishScript(name, entries);
  }
}

function entriesOf(command: Command, path: string): Entry[] {
  const help = { flags: ['--help'], description: 'what it takes', value: false, choices: [] };
  const entry: Entry = {
    path,
    commands: command.commands.map((child) => ({
      name: child.name(),
      description: child.description(),
    })),
    options: [...command.options.map(optionOf), help],
  };
  const below = command.commands.flatMap((child) =>
    entriesOf(child, path === '' ? child.name() : `${path} ${child.name()}`),
  );
  return [entry, ...below];
}

function optionOf(option: Option): Entry['options'][number] {
  const { short, long, description, argChoices } = option;
  return {
    flags: [short, long].filter((flag) => flag !== undefined),
    description,
    value: option.required || option.optional,
    choices: argChoices ?? [],
  };
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** The words so far that are commands, and what the shell can offer there. */
function bashScript(name: string, entries: readonly Entry[]): string {
  return `# bash completion of ${name}: source <(${name} completion bash)
_${name}() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" at="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${at:+$at }$word" in
      ${pathPattern(entries)}) at="\${at:+$at }$word" ;;
    esac
  done
  local words="" values=""
  case "$at|$prev" in
${valueCases(entries, (choices) => `values=${quoted(choices.join(' '))}`)}
  esac
  case "$at" in
${entries
  .map(({ path, commands, options }) => {
    const flags = options.flatMap((option) => option.flags).join(' ');
    const names = commands.map((command) => command.name).join(' ');
    const [yes, no] = [`words=${quoted(flags)}`, `words=${quoted(names)}`];
    return `    ${quoted(path)}) if [[ "$cur" == -* ]]; then ${yes}; else ${no}; fi ;;`;
  })
  .join('\n')}
  esac
  if [[ -n "$values" ]]; then words="$values"; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -o bashdefault -F _${name} ${name}`;
}

function pathPattern(entries: readonly Entry[]): string {
  const paths = entries.filter(({ path }) => path !== '').map(({ path }) => quoted(path));
  return paths.join('|');
}

function valueCases(entries: readonly Entry[], say: (choices: string[]) => string): string {
  return entries
    .flatMap(({ path, options }) =>
      options
        .filter(({ choices }) => choices.length > 0)
        .map(({ flags, choices }) => {
          const cases = flags.map((flag) => quoted(`${path}|${flag}`)).join('|');
          return `    ${cases}) ${say(choices)} ;;`;
        }),
    )
    .join('\n');
}

function zshScript(name: string, entries: readonly Entry[]): string {
  const described = (pairs: [string, string][]) =>
    pairs.map(([word, text]) => quoted(`${word.replaceAll(':', '\\:')}:${text}`)).join(' ');
  return `#compdef ${name}
# zsh completion of ${name}: source <(${name} completion zsh)
_${name}() {
  local at="" word
  local -a offered
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "\${at:+$at }$word" in
      ${pathPattern(entries)}) at="\${at:+$at }$word" ;;
    esac
  done
  case "$at|\${words[CURRENT-1]}" in
${valueCases(entries, (choices) => `compadd -- ${choices.map(quoted).join(' ')}; return`)}
  esac
  case "$at" in
${entries
  .map(({ path, commands, options }) => {
    const flags = options.flatMap(({ flags, description }) =>
      flags.map((flag): [string, string] => [flag, description]),
    );
    const names = commands.map((one): [string, string] => [one.name, one.description]);
    const isOption = `[[ "\${words[CURRENT]}" == -* ]]`;
    const [yes, no] = [`offered=(${described(flags)})`, `offered=(${described(names)})`];
    return `    ${quoted(path)}) if ${isOption}; then ${yes}; else ${no}; fi ;;`;
  })
  .join('\n')}
  esac
  if (( \${#offered} )); then _describe ${name} offered; else _files; fi
}
compdef _${name} ${name}`;
}

function fishScript(name: string, entries: readonly Entry[]): string {
  const at = `__${name}_at`;
  const lines = entries.flatMap(({ path, commands, options }) => {
    const here = `complete -c ${name} -n ${quoted(`${at} ${quoted(path)}`)}`;
    return [
      ...commands.map((one) => `${here} -f -a ${quoted(one.name)} -d ${quoted(one.description)}`),
      ...options.map(({ flags, description, value, choices }) => {
        const names = flags.map((flag) =>
          flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
        );
        const takes =
          choices.length > 0 ? ` -x -a ${quoted(choices.join(' '))}` : value ? ' -r' : '';
        return `${here} ${names.join(' ')}${takes} -d ${quoted(description)}`;
      }),
    ];
  });
  return `# fish completion of ${name}: ${name} completion fish | source
function ${at}
    set -l at ''
    for word in (commandline -opc)[2..]
        set -l next (string trim -- "$at $word")
        if contains -- "$next" ${pathPattern(entries).replaceAll('|', ' ')}
            set at $next
        end
    end
    test "$at" = "$argv[1]"
end
${lines.join('\n')}`;
}
