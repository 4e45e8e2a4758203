import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import ts from 'typescript-api';

/**
 * What the architecture tests look at: every file that git tracks or would track, parsed once. Paths are relative to
 * the repository's root, with forward slashes.
 */
export const ROOT = join(import.meta.dirname, '..', '..');

/** Tracked files and new ones that aren't ignored, without those that were deleted. */
export function listFiles(): readonly string[] {
	const out = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
		cwd: ROOT,
		encoding: 'utf8',
		maxBuffer: 64 * 1024 * 1024,
	});
	return [...new Set(out.split('\0'))].filter((path) => path !== '' && existsSync(join(ROOT, path))).sort();
}

export function readText(path: string): string {
	return readFileSync(join(ROOT, path), 'utf8');
}

export function isTest(path: string): boolean {
	return path.endsWith('.test.ts') || path.startsWith('test/');
}

/** A behavioural suite beside the interface that it is about, or what tests of a folder share; only tests import it. */
export function isTestSupport(path: string): boolean {
	return /[-/](contract|fixture)\.ts$/.test(path);
}

export function isGenerated(path: string): boolean {
	return path.startsWith('proto/gen/');
}

export interface Source {
	readonly path: string;
	readonly ast: ts.SourceFile;
	readonly imports: readonly Import[];
}

export interface Import {
	readonly specifier: string;
	/** The file it names, for a relative path; the package's name else (`node:fs`, `@grpc/grpc-js`). */
	readonly target: string;
	readonly relative: boolean;
	/** `type`: gone at run time; `lazy`: loaded when asked for, so that it orders nothing. */
	readonly kind: 'value' | 'type' | 'lazy';
	readonly line: number;
}

let sources: readonly Source[] | undefined;

/** All TypeScript that people wrote. */
export function readSources(): readonly Source[] {
	sources ??= listFiles()
		.filter((path) => path.endsWith('.ts') && !isGenerated(path) && !path.endsWith('.d.ts'))
		.map((path) => parse(path, readText(path)));
	return sources;
}

export function parse(path: string, text: string): Source {
	const ast = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);
	const imports: Import[] = [];
	walk(ast, (node) => {
		const literal = specifierOf(node);
		if (literal === undefined) return;
		const specifier = literal.text;
		const relative = specifier.startsWith('.');
		const target = relative ? posix.join(dirname(path), specifier) : packageName(specifier);
		imports.push({ specifier, target, relative, kind: kindOf(node), line: lineOf(ast, literal) });
	});
	return { path, ast, imports };
}

/** Static imports and re-exports (also type-only ones), `import()` calls and `import('x').T` types. */
function specifierOf(node: ts.Node): ts.StringLiteralLike | undefined {
	if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
		return ts.isStringLiteralLike(node.moduleSpecifier) ? node.moduleSpecifier : undefined;
	}
	if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
		return node.argument.literal;
	}
	if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
		const argument = node.arguments[0];
		return argument !== undefined && ts.isStringLiteralLike(argument) ? argument : undefined;
	}
	return undefined;
}

function kindOf(node: ts.Node): Import['kind'] {
	if (ts.isCallExpression(node)) return 'lazy';
	if (ts.isImportTypeNode(node)) return 'type';
	if (ts.isExportDeclaration(node)) return node.isTypeOnly ? 'type' : 'value';
	const clause = ts.isImportDeclaration(node) ? node.importClause : undefined;
	if (clause === undefined) return 'value';
	if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return 'type';
	const named = clause.namedBindings;
	const onlyTypes =
		clause.name === undefined &&
		named !== undefined &&
		ts.isNamedImports(named) &&
		named.elements.every((element) => element.isTypeOnly);
	return onlyTypes ? 'type' : 'value';
}

function packageName(specifier: string): string {
	if (specifier.startsWith('node:')) return specifier;
	return specifier
		.split('/')
		.slice(0, specifier.startsWith('@') ? 2 : 1)
		.join('/');
}

export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
	visit(node);
	ts.forEachChild(node, (child) => walk(child, visit));
}

export function lineOf(ast: ts.SourceFile, node: ts.Node): number {
	return ast.getLineAndCharacterOfPosition(node.getStart(ast)).line + 1;
}
