import { stripTypeScriptTypes } from 'node:module';
import { basename, dirname } from 'node:path';
import ts from 'typescript-api';
import { describe, expect, test } from 'vitest';
import { BANS, type Ban, isMain, SILENCERS } from './bans.ts';
import { isGenerated, isTest, lineOf, listFiles, parse, readSources, readText, type Source, walk } from './sources.ts';

/** Style that a machine can check (CONTRIBUTING.md). Every message names what to write instead. */
const LINES_MAX = 600;
const FUNCTION_LINES_MAX = 70;
/** Where all is put together, besides each main.ts. They read top to bottom: past this, a part wants a file of its own. */
const COMPOSITION_ROOTS: readonly string[] = ['agent/run.ts', 'control-plane/serve.ts'];
const COMPOSITION_ROOT_LINES_MAX = 200;
const MEDIAN_LINES_MAX = 100;
const P90_LINES_MAX = 300;

const files = listFiles();
const sources = readSources();
const products = sources.filter(
	({ path }) => /^(agent|channel|cli|control-plane|health|kit|pki|proto)\//.test(path) && !isTest(path),
);

test('Node’s own type stripper reads every file: tsc and vitest take some that it does not', () => {
	const broken = products.flatMap(({ path, ast }) => {
		try {
			stripTypeScriptTypes(ast.text);
			return [];
		} catch (error) {
			return [`${path}: ${error instanceof Error ? error.message : String(error)}`];
		}
	});
	expect(broken).toEqual([]);
});

describe('bans', () => {
	const banned = findBans(sources);
	for (const ban of BANS) {
		test(`${ban.what}: none`, () => {
			expect(banned.get(ban)).toEqual([]);
		});
	}

	test('comments that silence a checker: none', () => {
		const found = sources.flatMap(({ path, ast }) =>
			path.startsWith('test/architecture/')
				? []
				: linesMatching(ast.text, SILENCERS).map((line) => `${path}:${line}: repair the cause instead`),
		);
		expect(found).toEqual([]);
	});

	test('AsyncLocalStorage outside kit/log.ts: none', () => {
		const found = sources.filter(
			({ path, ast }) =>
				path !== 'kit/log.ts' && !path.startsWith('test/architecture/') && ast.text.includes('AsyncLocalStorage'),
		);
		expect(found.map(({ path }) => `${path}: pass the RequestContext instead`)).toEqual([]);
	});

	test('each ban finds what it bans', () => {
		const samples: Record<string, string> = {
			'Date.now': 'Date.now()',
			'new Date() without an argument': 'new Date()',
			'performance.now': 'performance.now()',
			'process.hrtime and process.uptime': 'process.hrtime.bigint()',
			'a global timer': 'setTimeout(() => {}, 1)',
			'AbortSignal.timeout': 'AbortSignal.timeout(5)',
			'Math.random': 'Math.random()',
			'randomness of node:crypto': "import { randomBytes } from 'node:crypto'",
			'process.exit': 'process.exit(1)',
			'process.env': 'process.env.HOME',
			'the uid and gid options of child processes': "spawn('x', [], { uid: 1 })",
			"Kysely's transaction()": 'db.transaction().execute(f)',
			console: 'console.log(1)',
			'a default export': 'export default 1',
			'an enum or a namespace': 'enum A { B }',
			'export * (a barrel)': "export * from './x.ts'",
			any: 'let a: any',
			'a non-null assertion (!)': 'a!.b',
			'a test that is skipped, focused or unfinished': "test.only('x', () => {})",
		};
		for (const ban of BANS) {
			const sample = samples[ban.what];
			expect(sample, `a sample of ${ban.what}`).toBeDefined();
			expect(findBans([parse('agent/sample.ts', sample ?? '')]).get(ban), ban.what).not.toEqual([]);
		}
		const fine =
			'clock.setTimeout(1); new Date(5); sqlite.transaction(f); test.skipIf(lacks("go"))("x", f); export class A {}';
		expect([...findBans([parse('agent/sample.ts', fine)]).values()].flat()).toEqual([]);
	});
});

describe('sizes', () => {
	test(`no file is longer than ${LINES_MAX} lines`, () => {
		const long = sources.filter(({ ast }) => lineCount(ast.text) > LINES_MAX);
		expect(
			long.map(
				({ path, ast }) =>
					`${path}: ${lineCount(ast.text)} lines; it has become the place for everything: split it by noun`,
			),
		).toEqual([]);
	});

	test(`no composition root is longer than ${COMPOSITION_ROOT_LINES_MAX} lines`, () => {
		expect(longRoots(sources)).toEqual([]);
		expect(COMPOSITION_ROOTS.filter((path) => !files.includes(path))).toEqual([]);
	});

	test('a composition root that is too long is found', () => {
		const lines = (count: number) => 'x();\n'.repeat(count);
		expect(longRoots([parse('agent/deep/main.ts', lines(201)), parse('agent/run.ts', lines(201))])).toHaveLength(2);
		expect(longRoots([parse('cli/main.ts', lines(200)), parse('cli/domain.ts', lines(201))])).toEqual([]);
	});

	test(`half of the files have at most ${MEDIAN_LINES_MAX} lines, nine in ten at most ${P90_LINES_MAX}`, () => {
		const counts = products.map(({ ast }) => lineCount(ast.text)).sort((a, b) => a - b);
		expect(counts[Math.floor(counts.length * 0.5)] ?? 0).toBeLessThanOrEqual(MEDIAN_LINES_MAX);
		expect(counts[Math.floor(counts.length * 0.9)] ?? 0).toBeLessThanOrEqual(P90_LINES_MAX);
	});

	test(`no function is longer than ${FUNCTION_LINES_MAX} lines`, () => {
		expect(sources.flatMap(longFunctions)).toEqual([]);
	});
});

describe('files', () => {
	test('no folder is a drawer for everything', () => {
		const drawers = /(^|\/)(src|utils?|common|helpers?|misc|shared|lib)\//;
		const found = files.filter((path) => drawers.test(path) && !path.startsWith('proto/'));
		expect(found.map((path) => `${path}: name the folder after what it owns`)).toEqual([]);
	});

	test('no index.ts', () => {
		expect(files.filter((path) => /^index\.[tj]s$/.test(basename(path)))).toEqual([]);
	});

	test('a function is as long as what is its own', () => {
		const body = (lines: number) => Array.from({ length: lines }, () => '\tx();').join('\n');
		expect(longFunctions(parse('kit/x.ts', `function long() {\n${body(69)}\n}`))).toHaveLength(1);
		expect(longFunctions(parse('kit/x.ts', `function short() {\n${body(68)}\n}`))).toEqual([]);
		expect(
			longFunctions(
				parse('kit/x.ts', `function outer() {\nreturn { a() {\n${body(60)}\n}, b: () => {\n${body(60)}\n} };\n}`),
			),
		).toEqual([]);
		expect(
			longFunctions(parse('kit/x.ts', `const f = () => {\n${body(30)}\ng(() => {\n${body(69)}\n});\n};`)),
		).toHaveLength(1);
	});

	test('every file is imported, or is a program, a test, or named by path', () => {
		const used = new Set(
			sources.flatMap(({ imports }) => imports.filter(({ relative }) => relative).map(({ target }) => target)),
		);
		const named = namedPaths();
		const dead = sources
			.map(({ path }) => path)
			.filter((path) => !used.has(path) && !path.endsWith('.test.ts') && !isMain(path) && !named.has(path));
		expect(dead, 'nothing uses these files: delete them').toEqual([]);
	});

	test('each markdown file has one title', () => {
		const wrong = files
			.filter((path) => path.endsWith('.md'))
			.map((path) => ({
				path,
				titles:
					readText(path)
						.replaceAll(/^```[\s\S]*?^```/gm, '')
						.match(/^# .+/gm)?.length ?? 0,
			}))
			.filter(({ titles }) => titles !== 1);
		expect(wrong.map(({ path, titles }) => `${path} has ${titles} lines that begin with "# "`)).toEqual([]);
	});

	test('every program and script starts with what it is', () => {
		const silent = products.filter(({ path, ast }) => basename(path) === 'main.ts' && !ast.text.includes('/**'));
		expect(
			silent.map(({ path }) => `${path}: open with a paragraph: what it owns, its invariants, who calls it`),
		).toEqual([]);
	});
});

describe('reasons', () => {
	const declared = new Set(
		[...readText('proto/gpuaas/common/v1/reason.proto').matchAll(/^\s*REASON_([A-Z0-9_]+)\s*=/gm)].map(
			(match) => match[1] ?? '',
		),
	);

	test('every reason in the code is declared in reason.proto', () => {
		const unknown = products.flatMap(({ path, ast }) =>
			reasonLiterals(ast)
				.filter(({ reason }) => !declared.has(reason))
				.map(({ reason, line }) => `${path}:${line}: ${reason}`),
		);
		expect(unknown, 'append them to proto/gpuaas/common/v1/reason.proto').toEqual([]);
	});

	test('a reason is found where errors and refusals are made', () => {
		const { ast } = parse(
			'agent/x.ts',
			"new GpuaasError({ code: 'INTERNAL', reason: 'A_B', message: '' }); const x = { ok: false, reason: 'C' as const }; type T = { reason: 'D_E' | 'F' }",
		);
		expect(reasonLiterals(ast).map(({ reason }) => reason)).toEqual(['A_B', 'C', 'D_E', 'F']);
	});
});

/** One walk over each file for all bans. */
function findBans(files: readonly Source[]): Map<Ban, string[]> {
	const found = new Map<Ban, string[]>(BANS.map((ban) => [ban, []]));
	for (const { path, ast } of files) {
		// The bans themselves and their samples.
		if (path.startsWith('test/architecture/')) continue;
		const applying = BANS.filter((ban) => ban.allowed?.(path) !== true);
		walk(ast, (node) => {
			for (const ban of applying) {
				if (ban.matches(node)) found.get(ban)?.push(`${path}:${lineOf(ast, node)}: ${ban.what}; use ${ban.instead}`);
			}
		});
	}
	return found;
}

function linesMatching(text: string, pattern: RegExp): number[] {
	return text.split('\n').flatMap((line, index) => (pattern.test(line) ? [index + 1] : []));
}

function longRoots(files: readonly Source[]): string[] {
	return files
		.filter(({ path }) => basename(path) === 'main.ts' || COMPOSITION_ROOTS.includes(path))
		.filter(({ ast }) => lineCount(ast.text) > COMPOSITION_ROOT_LINES_MAX)
		.map(({ path, ast }) => `${path}: ${lineCount(ast.text)} lines; move what isn't order into a file of its own`);
}

function lineCount(text: string): number {
	return text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
}

/** Lines of its own: those of functions inside it count for them, so that a factory or a table of tests may be long. */
function longFunctions({ path, ast }: Source): string[] {
	const found: string[] = [];
	walk(ast, (node) => {
		if (!isFunctionWithBody(node)) return;
		const own = lineSpan(ast, node) - nestedLines(ast, node);
		if (own > FUNCTION_LINES_MAX)
			found.push(`${path}:${lineOf(ast, node)}: a function of ${own} lines; give its steps names`);
	});
	return found;
}

function isFunctionWithBody(node: ts.Node): boolean {
	return ts.isFunctionLike(node) && 'body' in node && node.body !== undefined;
}

function lineSpan(ast: ts.SourceFile, node: ts.Node): number {
	return ast.getLineAndCharacterOfPosition(node.getEnd()).line + 2 - lineOf(ast, node);
}

/** Whole lines of the outermost functions inside `node`: all but the first, which they share with it. */
function nestedLines(ast: ts.SourceFile, node: ts.Node): number {
	let lines = 0;
	ts.forEachChild(node, (child) => {
		lines += isFunctionWithBody(child) ? lineSpan(ast, child) - 1 : nestedLines(ast, child);
	});
	return lines;
}

/** Files that a string literal names (`new URL('./probe.ts', import.meta.url)`), or a script, a workflow or a config. */
function namedPaths(): Set<string> {
	const named = new Set<string>();
	for (const { path, ast } of sources) {
		walk(ast, (node) => {
			if (!ts.isStringLiteralLike(node) || !node.text.endsWith('.ts')) return;
			for (const base of [dirname(path), '.'])
				named.add(new URL(node.text, `file:///${base === '.' ? '' : `${base}/`}`).pathname.slice(1));
		});
	}
	const scripts = files
		.filter((path) => /\.(sh|json|ya?ml|js)$/.test(path) || path === 'gpuaas' || path === '.ci/run')
		.filter((path) => path !== 'package-lock.json');
	for (const path of scripts)
		for (const match of readText(path).matchAll(/[\w./-]+\.ts\b/g)) named.add(match[0].replace(/^\.\//, ''));
	return new Set([...named].filter((path) => !isGenerated(path)));
}

function reasonLiterals(ast: ts.SourceFile): { reason: string; line: number }[] {
	const found: { reason: string; line: number }[] = [];
	walk(ast, (node) => {
		const isReason =
			(ts.isPropertyAssignment(node) || ts.isPropertySignature(node)) && node.name.getText(ast) === 'reason';
		if (!isReason) return;
		// `reason: 'X'`, `reason: late ? 'X' : 'Y'`, `reason: 'X' | 'Y'`; an object under `reason` is something else.
		if (ts.isPropertyAssignment(node) && ts.isObjectLiteralExpression(node.initializer)) return;
		walk(node, (inner) => {
			if (ts.isStringLiteral(inner) && /^[A-Z][A-Z0-9_]*$/.test(inner.text))
				found.push({ reason: inner.text, line: lineOf(ast, inner) });
		});
	});
	return found;
}
