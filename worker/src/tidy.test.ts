/**
 * The house rules that no linter knows, checked over the repository with TypeScript's own parser:
 * sizes, names, the Env rule, import direction, dead files and exports, no `any`. Each rule is a
 * function from the parsed files to its faults; the first half proves on a small project that each
 * rule finds what it is for, the second half runs all of them over this repository.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as ast from 'typescript/unstable/ast';
import { API } from 'typescript/unstable/sync';

const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const MAX_FILE_LINES = 400;
const MAX_TEST_FILE_LINES = 800;
const MAX_FUNCTION_LINES = 70;
const MAX_LINE_COLUMNS = 100;

const TEST_FILE = /\.(test|e2e)\.ts$/;
const DRAWER = /^(utils?|helpers?|commons?)$/;
const KEBAB_FILE = /^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+)*\.ts$/;

/** Started by something other than an import, a script of package.json or a test. */
const ENTRY_POINTS = [
  'worker/src/main.ts',
  'operator/src/main.ts',
  'worker/bin/triggerjob.mjs',
  // Run by Dockerfile.worker.
  'worker/src/cli/fill-compile-cache.ts',
  // Run by hand when the cases change: writes the corpus that the filter's tests read.
  'e2e/aviator/generate.ts',
];

/** The only files that may read clocks and draw numbers: they make the real Env. */
const ENV_FILES = [
  'worker/src/runtime/env.ts',
  'worker/src/ui/browser/browser-env.ts',
  'operator/src/env.ts',
];

/** Independent witnesses of the exactly-once checker: they share no code with what they judge. */
const WITNESSES = ['e2e/exactly-once/fold.ts', 'e2e/exactly-once/receiver.ts'];

interface ParsedFile {
  /** Relative to the repository, `/`-separated. */
  path: string;
  text: string;
  source: ast.SourceFile;
  /** Repository-relative paths of the project's own files this one imports or names in a string. */
  imports: string[];
  /** Package and node: specifiers. */
  packages: string[];
}

interface Project {
  files: Map<string, ParsedFile>;
  scripts: string;
}

type Rule = (project: Project) => string[];

function parseProject(root: string): Project {
  const api = new API({ cwd: root });
  try {
    const config = join(root, 'tsconfig.json');
    const [project] = api.updateSnapshot({ openProjects: [config] }).getProjects();
    assert.ok(project, `no TypeScript project at ${config}`);
    const files = new Map<string, ParsedFile>();
    for (const file of project.rootFiles) {
      const source = project.program.getSourceFile(file);
      assert.ok(source, `${file} was not parsed`);
      const path = relative(root, file).replaceAll('\\', '/');
      const text = readFileSync(file, 'utf8');
      files.set(path, { path, text, source, ...referencesOf(root, path, source) });
    }
    const packageFile = join(root, 'package.json');
    const scripts = existsSync(packageFile)
      ? JSON.stringify(JSON.parse(readFileSync(packageFile, 'utf8')).scripts ?? {})
      : '';
    return { files, scripts };
  } finally {
    api.close();
  }
}

function walk(node: ast.Node, visit: (node: ast.Node) => void): void {
  visit(node);
  node.forEachChild((child) => {
    walk(child, visit);
    return undefined;
  });
}

/** A string that names an existing source file counts as a use: threads start by file name. */
function referencesOf(root: string, path: string, source: ast.SourceFile) {
  const imports = new Set<string>();
  const packages = new Set<string>();
  const folder = dirname(join(root, path));
  walk(source, (node) => {
    if (!ast.isStringLiteral(node) && !ast.isNoSubstitutionTemplateLiteral(node)) return;
    if (isModuleSpecifier(node) && !node.text.startsWith('.')) packages.add(node.text);
    if (!/\.(ts|mjs)$/.test(node.text)) return;
    for (const base of [folder, root]) {
      const target = resolve(base, node.text);
      if (existsSync(target)) imports.add(relative(root, target).replaceAll('\\', '/'));
    }
  });
  return { imports: [...imports], packages: [...packages] };
}

function isModuleSpecifier(node: ast.Node): boolean {
  const parent = node.parent;
  return (
    ast.isImportDeclaration(parent) ||
    ast.isExportDeclaration(parent) ||
    (ast.isCallExpression(parent) && parent.expression.kind === ast.SyntaxKind.ImportKeyword)
  );
}

function lineOf(file: ParsedFile, position: number): number {
  return file.source.getLineAndCharacterOfPosition(position).line + 1;
}

/** First line without the comments before the node, last line, both from 1. */
function linesOf(file: ParsedFile, node: ast.Node): [number, number] {
  return [lineOf(file, node.getStart(file.source)), lineOf(file, node.end)];
}

const isTest = (file: ParsedFile): boolean => TEST_FILE.test(file.path);
const linesIn = (text: string): string[] => text.replace(/\n$/, '').split('\n');

const fileLength: Rule = ({ files }) =>
  [...files.values()].flatMap((file) => {
    const limit = isTest(file) ? MAX_TEST_FILE_LINES : MAX_FILE_LINES;
    const lines = linesIn(file.text).length;
    return lines > limit ? [`${file.path}: ${lines} lines, at most ${limit}`] : [];
  });

const lineLength: Rule = ({ files }) =>
  [...files.values()].flatMap((file) =>
    linesIn(file.text).flatMap((line, index) =>
      [...line].length > MAX_LINE_COLUMNS
        ? [`${file.path}:${index + 1}: ${[...line].length} columns, at most ${MAX_LINE_COLUMNS}`]
        : [],
    ),
  );

function isFunction(node: ast.Node): boolean {
  return (
    ast.isFunctionDeclaration(node) ||
    ast.isFunctionExpression(node) ||
    ast.isArrowFunction(node) ||
    ast.isMethodDeclaration(node) ||
    ast.isConstructorDeclaration(node) ||
    ast.isGetAccessorDeclaration(node) ||
    ast.isSetAccessorDeclaration(node)
  );
}

/** The callback of `describe` only holds tests together. */
function isDescribeCallback(node: ast.Node): boolean {
  const call = node.parent;
  return (
    ast.isCallExpression(call) &&
    ast.isIdentifier(call.expression) &&
    (call.expression.text === 'describe' || call.expression.text === 'suite')
  );
}

const functionLength: Rule = ({ files }) => {
  const faults: string[] = [];
  for (const file of files.values()) {
    walk(file.source, (node) => {
      if (!isFunction(node) || (isTest(file) && isDescribeCallback(node))) return;
      const [first, last] = linesOf(file, node);
      const lines = last - first + 1;
      if (lines > MAX_FUNCTION_LINES) {
        faults.push(`${file.path}:${first}: function of ${lines} lines, at most 70`);
      }
    });
  }
  return faults;
};

const fileNames: Rule = ({ files }) =>
  [...files.keys()].flatMap((path) => {
    const parts = path.split('/');
    const name = parts.at(-1) ?? '';
    const drawer = parts.find((part) => DRAWER.test(part.split('.')[0] ?? ''));
    if (drawer !== undefined) return [`${path}: ${drawer} says nothing about its content`];
    if (name === 'index.ts') return [`${path}: no barrels; name the file by what it holds`];
    return KEBAB_FILE.test(name) ? [] : [`${path}: file names are kebab-case`];
  });

const BANNED_NAMES = new Set([
  'setTimeout',
  'setInterval',
  'randomUUID',
  'randomBytes',
  'randomInt',
  'getRandomValues',
]);
const BANNED_MEMBERS = new Set([
  'Date.now',
  'Math.random',
  'performance.now',
  'performance.timeOrigin',
  'process.hrtime',
  'AbortSignal.timeout',
  'globalThis.setTimeout',
  'globalThis.setInterval',
]);

/** The banned thing that this node is, or null. */
function bannedByEnvRule(node: ast.Node): string | null {
  if (ast.isPropertyAccessExpression(node)) {
    const name = node.name.text;
    const owner = ast.isIdentifier(node.expression) ? node.expression.text : '';
    if (BANNED_MEMBERS.has(`${owner}.${name}`)) return `${owner}.${name}`;
    return owner === 'crypto' && BANNED_NAMES.has(name) ? `crypto.${name}` : null;
  }
  if (ast.isNewExpression(node) && ast.isIdentifier(node.expression)) {
    const bare = node.expression.text === 'Date' && (node.arguments?.length ?? 0) === 0;
    return bare ? 'new Date()' : null;
  }
  if (!ast.isIdentifier(node) || !BANNED_NAMES.has(node.text)) return null;
  const parent = node.parent;
  const called = ast.isCallExpression(parent) && parent.expression === node;
  const handedOn = ast.isCallExpression(parent) && parent.arguments.includes(node);
  return called || handedOn || ast.isImportSpecifier(parent) ? node.text : null;
}

const envRule: Rule = ({ files }) => {
  const faults: string[] = [];
  for (const file of files.values()) {
    const bound = /^(worker|operator)\/src\//.test(file.path) && !ENV_FILES.includes(file.path);
    if (!bound || isTest(file)) continue;
    walk(file.source, (node) => {
      const banned = bannedByEnvRule(node);
      if (banned === null) return;
      const line = lineOf(file, node.getStart(file.source));
      faults.push(`${file.path}:${line}: ${banned}; take it from an Env`);
    });
  }
  return faults;
};

const ENV_OF_OPERATOR = ['operator/src/env.ts', 'operator/src/manual-env.ts'];

/** Why `from` may not import `to`, or null. The test of a folder may use what it needs. */
function forbiddenImport(from: string, to: string): string | null {
  const inFolder = (path: string, folder: string) => path.startsWith(`${folder}/`);
  if (from.startsWith('operator/') && inFolder(to, 'worker')) {
    return inFolder(to, 'worker/src/plan') ? null : 'operator/ may import only worker/src/plan';
  }
  const isProduct = inFolder(from, 'worker') || inFolder(from, 'operator');
  if (isProduct && (inFolder(to, 'e2e') || inFolder(to, 'bench'))) {
    return 'no product imports its tests';
  }
  if (inFolder(from, 'operator/src/kube') && inFolder(to, 'operator/src')) {
    const own = inFolder(to, 'operator/src/kube') || ENV_OF_OPERATOR.includes(to);
    return own ? null : 'kube/ knows nothing of jobs';
  }
  if (inFolder(from, 'worker') && inFolder(to, 'operator')) return 'worker never imports operator';
  if (inFolder(from, 'worker/src/plan') && !inFolder(to, 'worker/src/plan')) {
    return 'plan/ imports nothing from other folders';
  }
  if (inFolder(to, 'worker/src/cli')) {
    const above = inFolder(from, 'worker/src/cli') || from === 'worker/src/main.ts';
    return above || !inFolder(from, 'worker') ? null : 'nothing below imports cli/';
  }
  if (inFolder(to, 'worker/src/taskmanager')) {
    const users = ['taskmanager', 'cli', 'rehearsal', 'sim'];
    const allowed = users.map((folder) => `worker/src/${folder}`);
    const above = allowed.some((folder) => inFolder(from, folder)) || !inFolder(from, 'worker');
    return above || from === 'worker/src/main.ts' ? null : 'nothing below imports taskmanager/';
  }
  return null;
}

const importDirection: Rule = ({ files }) => {
  const faults: string[] = [];
  for (const file of files.values()) {
    if (isTest(file)) continue;
    for (const target of file.imports) {
      const reason = forbiddenImport(file.path, target);
      if (reason !== null) faults.push(`${file.path} imports ${target}: ${reason}`);
    }
  }
  return faults;
};

function reachableFrom(project: Project, roots: readonly string[]): Set<string> {
  const seen = new Set<string>(roots);
  const queue = [...roots];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    for (const target of project.files.get(path)?.imports ?? []) {
      if (!seen.has(target)) queue.push(target);
      seen.add(target);
    }
  }
  return seen;
}

const witnesses: Rule = (project) =>
  WITNESSES.filter((path) => project.files.has(path)).flatMap((path) =>
    [...reachableFrom(project, [path])]
      .filter((target) => target.startsWith('worker/') || target.startsWith('operator/'))
      .map(
        (target) => `${path} reaches ${target}: the checker must not share code with the worker`,
      ),
  );

const deadFiles: Rule = (project) => {
  const scripts = [...project.scripts.matchAll(/[\w./-]+\.(?:ts|mjs)\b/g)].map((match) => match[0]);
  const tests = [...project.files.values()].filter(isTest).map((file) => file.path);
  const live = reachableFrom(project, [...ENTRY_POINTS, ...scripts, ...tests]);
  return (
    [...project.files.keys()]
      // A declaration file describes a package to the compiler; nothing imports it.
      .filter((path) => !path.endsWith('.d.ts') && !live.has(path))
      .filter((path) => /^(worker\/src|operator\/src|bench|e2e)\//.test(path))
      .map((path) => `${path}: no import, script or test leads here`)
  );
};

/** Values only: an exported type may exist to be named by a signature beside it. */
function exportedValues(source: ast.SourceFile): string[] {
  return source.statements.flatMap((statement) => {
    const declared =
      ast.isFunctionDeclaration(statement) || ast.isClassDeclaration(statement)
        ? [statement.name]
        : ast.isVariableStatement(statement)
          ? statement.declarationList.declarations.map((declaration) => declaration.name)
          : [];
    const marked = (statement as ast.FunctionDeclaration).modifiers?.some(
      (modifier) => modifier.kind === ast.SyntaxKind.ExportKeyword,
    );
    if (!marked) return [];
    return declared.flatMap((name) => (name && ast.isIdentifier(name) ? [name.text] : []));
  });
}

const deadExports: Rule = ({ files }) => {
  const used = new Set<string>();
  for (const file of files.values()) {
    walk(file.source, (node) => {
      if (ast.isImportSpecifier(node) || ast.isExportSpecifier(node)) {
        used.add((node.propertyName ?? node.name).text);
      } else if (ast.isPropertyAccessExpression(node)) used.add(node.name.text);
      else if (ast.isBindingElement(node)) {
        const name = node.propertyName ?? node.name;
        if (name && ast.isIdentifier(name)) used.add(name.text);
      }
    });
  }
  return [...files.values()].flatMap((file) =>
    exportedValues(file.source)
      .filter((name) => !used.has(name))
      .map((name) => `${file.path}: export ${name} is imported nowhere`),
  );
};

const noAny: Rule = ({ files }) => {
  const faults: string[] = [];
  for (const file of files.values()) {
    walk(file.source, (node) => {
      if (node.kind !== ast.SyntaxKind.AnyKeyword) return;
      faults.push(`${file.path}:${lineOf(file, node.getStart(file.source))}: any`);
    });
  }
  return faults;
};

const OPEN_WORK = new RegExp(`\\b(${['TO', 'FIX'].join('DO|')}ME)\\b|@ts-(ignore|nocheck)`);

const noOpenWork: Rule = ({ files }) =>
  [...files.values()].flatMap((file) =>
    linesIn(file.text).flatMap((line, index) =>
      OPEN_WORK.test(line) ? [`${file.path}:${index + 1}: ${line.trim()}`] : [],
    ),
  );

const RULES: Record<string, Rule> = {
  'a file has at most 400 lines, a test 800': fileLength,
  'a line has at most 100 columns': lineLength,
  'a function has at most 70 lines': functionLength,
  'file names are kebab-case and say what is inside': fileNames,
  'time, chance and timers come from an Env': envRule,
  'imports point downwards only': importDirection,
  'the checker shares no code with what it checks': witnesses,
  'no file is dead': deadFiles,
  'no exported value is dead': deadExports,
  'nothing is any': noAny,
  'no open work is left in a comment': noOpenWork,
};

const TSCONFIG = {
  compilerOptions: {
    module: 'nodenext',
    allowImportingTsExtensions: true,
    noEmit: true,
    types: [],
  },
  include: ['worker', 'operator', 'e2e', 'bench'],
};

describe('the rules find what they are for', () => {
  let root = '';
  const faultsOf = (rule: Rule, files: Record<string, string>, scripts = {}): string[] => {
    root = mkdtempSync(join(tmpdir(), 'tidy-'));
    const all = {
      ...files,
      'tsconfig.json': JSON.stringify(TSCONFIG),
      'package.json': JSON.stringify({ scripts }),
    };
    for (const [path, text] of Object.entries(all)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    try {
      return rule(parseProject(root));
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  };
  const bodyOf = (lines: number) => 'x();\n'.repeat(lines);

  it('counts the lines of files, tests with their own limit', () => {
    const faults = faultsOf(fileLength, {
      'worker/src/fits.ts': bodyOf(400),
      'worker/src/long.ts': bodyOf(401),
      'worker/src/fits.test.ts': bodyOf(800),
      'worker/src/long.test.ts': bodyOf(801),
    });
    assert.deepEqual(faults.toSorted(), [
      'worker/src/long.test.ts: 801 lines, at most 800',
      'worker/src/long.ts: 401 lines, at most 400',
    ]);
  });

  it('counts columns by character, not by UTF-16 unit', () => {
    const faults = faultsOf(lineLength, {
      'worker/src/a.ts': `// ${'🙂'.repeat(97)}\n// ${'x'.repeat(98)}\n`,
    });
    assert.deepEqual(faults, ['worker/src/a.ts:2: 101 columns, at most 100']);
  });

  it('measures every kind of function, whatever its text holds', () => {
    const faults = faultsOf(functionLength, {
      'worker/src/a.ts': `/** not\ncounted */\nfunction fits() {\n${bodyOf(68)}}\n`,
      'worker/src/b.ts': `function declared() {\n${bodyOf(69)}}\n`,
      'worker/src/c.ts': `const arrow = () => {\n${bodyOf(69)}};\n`,
      'worker/src/d.ts': `class C {\n  method() {\n${bodyOf(69)}}\n}\n`,
      // A brace counter would lose itself in these.
      'worker/src/e.ts': `function f() { return /[{]/.test('{' + \`\${'}'}{\`); }\n${bodyOf(80)}`,
      'worker/src/g.test.ts': `describe('x', () => {\n${bodyOf(90)}});\n`,
      'worker/src/h.test.ts': `it('x', () => {\n${bodyOf(90)}});\n`,
    });
    assert.deepEqual(faults.map((fault) => fault.split(': ')[0]).toSorted(), [
      'worker/src/b.ts:1',
      'worker/src/c.ts:1',
      'worker/src/d.ts:2',
      'worker/src/h.test.ts:1',
    ]);
  });

  it('refuses drawers, barrels and camelCase', () => {
    const names = ['worker/src/utils.ts', 'worker/src/helpers/x.ts', 'worker/src/common.test.ts'];
    const more = ['worker/src/index.ts', 'worker/src/camelCase.ts', 'worker/src/fine-name.ts'];
    const files = Object.fromEntries([...names, ...more].map((name) => [name, '']));
    assert.equal(faultsOf(fileNames, files).length, 5);
  });

  it('finds clocks, timers and chance, in worker/src only and not in tests', () => {
    const uses = [
      'Date.now();',
      'new Date();',
      'Math.random();',
      'performance.now();',
      'setTimeout(f, 1);',
      'promisify(setTimeout);',
      'AbortSignal.timeout(5);',
      "import { randomUUID } from 'node:crypto';",
      "import { setTimeout as sleep } from 'node:timers/promises';",
    ];
    const fine = ['new Date(5);', 'env.now();', 'setImmediate(f);', 'const o = { randomUUID: 1 };'];
    const files = Object.fromEntries(
      [...uses, ...fine].map((text, index) => [`worker/src/f${index}.ts`, text]),
    );
    const bad = new Set(faultsOf(envRule, files).map((fault) => fault.split(':')[0]));
    assert.deepEqual(
      [...bad].toSorted(),
      uses.map((_, index) => `worker/src/f${index}.ts`),
    );
    const exempt = {
      'worker/src/x.test.ts': 'Date.now();',
      'worker/src/runtime/env.ts': 'Date.now()',
      'operator/src/env.ts': 'Date.now()',
    };
    assert.deepEqual(faultsOf(envRule, { ...exempt, 'e2e/a.ts': 'Date.now();' }), []);
    assert.equal(faultsOf(envRule, { 'operator/src/a.ts': 'Date.now();' }).length, 1);
  });

  it('knows which way imports may point', () => {
    const use = (path: string) => `import { x } from '${path}';\n`;
    const faults = faultsOf(importDirection, {
      'worker/src/plan/plan.ts': use('../state/state.ts'),
      'worker/src/state/state.ts': use('../plan/plan.ts') + use('../cli/cli.ts'),
      'worker/src/cli/cli.ts': use('../taskmanager/main.ts'),
      'worker/src/rest/server.ts': use('../taskmanager/main.ts'),
      'worker/src/taskmanager/main.ts': '',
      'worker/src/main.ts': "await import('./cli/cli.ts');",
      'operator/src/main.ts':
        use('../../worker/src/plan/plan.ts') + use('../../worker/src/state/state.ts'),
      'operator/src/env.ts': '',
      'operator/src/reconcile.ts': use('../../e2e/lab.ts'),
      'operator/src/kube/client.ts': use('../env.ts') + use('../reconcile.ts'),
      'e2e/lab.ts': '',
    });
    assert.deepEqual(faults.map((fault) => fault.split(':')[0]).toSorted(), [
      'operator/src/kube/client.ts imports operator/src/reconcile.ts',
      'operator/src/main.ts imports worker/src/state/state.ts',
      'operator/src/reconcile.ts imports e2e/lab.ts',
      'worker/src/plan/plan.ts imports worker/src/state/state.ts',
      'worker/src/rest/server.ts imports worker/src/taskmanager/main.ts',
      'worker/src/state/state.ts imports worker/src/cli/cli.ts',
    ]);
  });

  it('follows the imports of the witnesses', () => {
    const faults = faultsOf(witnesses, {
      'e2e/exactly-once/fold.ts': "import { x } from '../other.ts';",
      'e2e/other.ts': "import { x } from '../worker/src/state.ts';",
      'e2e/exactly-once/receiver.ts': "import http from 'node:http';",
      'worker/src/state.ts': '',
    });
    assert.equal(faults.length, 1);
    assert.match(faults[0] ?? '', /^e2e\/exactly-once\/fold\.ts reaches worker\/src\/state\.ts/);
  });

  it('finds files and exports that nothing uses', () => {
    const files = {
      'worker/src/main.ts': "import { used } from './used.ts';\nused();\n",
      'worker/src/used.ts': 'export const used = () => unused;\nexport const unused = 1;\n',
      'worker/src/thread.ts': '',
      'worker/src/starts.test.ts': "new Worker(new URL('./thread.ts', import.meta.url));",
      'worker/src/dead.ts': "import './dead-too.ts';",
      'worker/src/dead-too.ts': '',
      'bench/run.ts': "import './case.ts';",
      'bench/case.ts': '',
    };
    const dead = faultsOf(deadFiles, files, { bench: 'node bench/run.ts' });
    const paths = dead.map((fault) => fault.split(':')[0]).toSorted();
    assert.deepEqual(paths, ['worker/src/dead-too.ts', 'worker/src/dead.ts']);
    assert.deepEqual(faultsOf(deadExports, files), [
      'worker/src/used.ts: export unused is imported nowhere',
    ]);
  });

  it('finds any as a type, not as a word', () => {
    const text = "// any of these\nconst s: string = 'any';\nconst x = s as any;\n";
    assert.deepEqual(faultsOf(noAny, { 'worker/src/a.ts': text }), ['worker/src/a.ts:3: any']);
    const open = `// ${'TO'}${'DO'}: later\n`;
    assert.equal(faultsOf(noOpenWork, { 'worker/src/a.ts': open }).length, 1);
  });
});

describe('this repository is tidy', () => {
  let project: Project;
  before(() => {
    project = parseProject(REPOSITORY);
  });
  after(() => console.log(`tidy: ${project.files.size} files looked at`));

  for (const [promise, rule] of Object.entries(RULES)) {
    it(promise, () => {
      const faults = rule(project);
      assert.equal(faults.length, 0, `\n${faults.join('\n')}\n`);
    });
  }
});
