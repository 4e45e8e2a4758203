import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { covers, layerOf, mayImport, readLayers } from './layers.ts';
import {
	type Import,
	isTest,
	isTestSupport,
	listFiles,
	parse,
	ROOT,
	readSources,
	readText,
	type Source,
} from './sources.ts';

/** Who may import whom, as data (layers.json): what compiles is not always what was agreed. */
const layers = readLayers();
const sources = readSources();

describe('arrows', () => {
	test('every folder is declared', () => {
		const undeclared = new Set(
			sources.map((source) => source.path).filter((path) => layerOf(layers, path) === undefined),
		);
		expect(
			[...undeclared],
			'add the folder and its arrows to layers.json (and to ARCHITECTURE.md if it is a new room)',
		).toEqual([]);
	});

	test('every import follows an arrow', () => {
		expect(sources.flatMap(strayImports)).toEqual([]);
	});

	test('agent and control plane share only the contract', () => {
		const crossing = sources
			.filter(({ path }) => !path.startsWith('test/'))
			.flatMap(({ path, imports }) =>
				imports
					.filter(
						({ target, relative }) =>
							relative &&
							((path.startsWith('agent/') && target.startsWith('control-plane/')) ||
								(path.startsWith('control-plane/') && target.startsWith('agent/'))),
					)
					.map(({ target }) => `${path} imports ${target}`),
			);
		expect(crossing).toEqual([]);
	});

	test('nothing but tests imports tests', () => {
		const wrong = sources
			.filter(({ path }) => !isTest(path) && !isTestSupport(path))
			.flatMap(({ path, imports }) =>
				imports
					.filter(({ target, relative }) => relative && (isTest(target) || isTestSupport(target)))
					.map(({ target }) => `${path} imports ${target}`),
			);
		expect(wrong).toEqual([]);
	});

	test('there are no import cycles', () => {
		expect(cycles(sources)).toEqual([]);
	});
});

describe('third-party packages', () => {
	const runtime = Object.keys(
		(JSON.parse(readText('package.json')) as { dependencies: Record<string, string> }).dependencies,
	);

	test('each has an owner', () => {
		expect(sources.flatMap(strayPackages)).toEqual([]);
	});

	test('each dependency of the package is declared', () => {
		const undeclared = runtime.filter((name) => layers.packages[name] === undefined);
		expect(undeclared, 'name its owner in layers.json').toEqual([]);
	});

	test('what ships imports no development dependency', () => {
		expect(sources.flatMap((source) => developmentImports(source, runtime))).toEqual([]);
	});

	test('a development dependency is found in every folder that ships', () => {
		const found = SHIPPED.flatMap((folder) =>
			developmentImports(parse(`${folder}/x.ts`, "import { test } from 'vitest';"), runtime),
		);
		expect(found).toEqual(SHIPPED.map((folder) => `${folder}/x.ts imports vitest`));
		expect(developmentImports(parse('health/x.test.ts', "import { test } from 'vitest';"), runtime)).toEqual([]);
	});
});

describe('the rules themselves', () => {
	test('names cover what they say', () => {
		expect(covers('kit', 'kit/log.ts')).toBe(true);
		expect(covers('kit', 'kit/deep/log.ts')).toBe(false);
		expect(covers('pki/*', 'pki/ca/issuer.ts')).toBe(true);
		expect(covers('pki/*', 'pki/issuer.ts')).toBe(false);
		expect(covers('pki/*', 'pki/ca/deep/issuer.ts')).toBe(false);
		expect(covers('test/**', 'test/a.ts')).toBe(true);
		expect(covers('test/**', 'test/a/b.ts')).toBe(true);
		expect(covers('test/**', 'tests/a.ts')).toBe(false);
		expect(covers('control-plane/context', 'control-plane/context.ts')).toBe(true);
	});

	test('a file has the most specific layer', () => {
		expect(layerOf(layers, 'control-plane/context.ts')).toBe('control-plane/context');
		expect(layerOf(layers, 'control-plane/main.ts')).toBe('control-plane');
		expect(layerOf(layers, 'control-plane/nowhere/x.ts')).toBeUndefined();
	});

	test('a forbidden import is found, also when it is only a type', () => {
		const text =
			"import type { Store } from '../control-plane/store/port/store.ts';\nlet x: import('../control-plane/main.ts').X;";
		expect(strayImports(parse('agent/main.ts', text))).toHaveLength(2);
		expect(mayImport(layers, 'agent', 'control-plane/main.ts')).toBe(false);
		expect(mayImport(layers, 'agent', 'kit/log.ts')).toBe(true);
	});

	test('a package outside its owner is found', () => {
		expect(strayPackages(parse('cli/main.ts', "import pg from 'pg';"))).toHaveLength(1);
		expect(strayPackages(parse('cli/main.ts', "import { x } from 'left-pad';"))).toHaveLength(1);
		expect(strayPackages(parse('cli/main.ts', "import { x } from 'node:timers/promises';"))).toHaveLength(1);
	});

	test('a cycle is found', () => {
		const found = cycles([
			parse('kit/a.ts', "import './b.ts'"),
			parse('kit/b.ts', "import './c.ts'"),
			parse('kit/c.ts', "import { A } from './a.ts'"),
		]);
		expect(found).toEqual(['kit/a.ts -> kit/b.ts -> kit/c.ts -> kit/a.ts']);
		const typesOfOneFolder = "import type { B } from './b.ts'";
		expect(cycles([parse('kit/a.ts', typesOfOneFolder), parse('kit/b.ts', "import { A } from './a.ts'")])).toEqual([]);
		const typesAcross = "import type { B } from '../pki/b.ts'";
		expect(cycles([parse('kit/a.ts', typesAcross), parse('pki/b.ts', "import { A } from '../kit/a.ts'")])).toHaveLength(
			1,
		);
	});
});

/** Folders of code, from what the package itself says it ships. */
const SHIPPED = (JSON.parse(readText('package.json')) as { files: readonly string[] }).files
	.map((entry) => entry.replace(/\/$/, ''))
	.filter((entry) => sources.some(({ path }) => path.startsWith(`${entry}/`)));

/** Of those folders, what `files` of package.json leaves out because it only makes the package or the generated code. */
const KEPT_HOME = /^(proto\/openapi\/|packaging\/(prepack|specifiers)\.ts$)/;

function developmentImports({ path, imports }: Source, runtime: readonly string[]): string[] {
	const isShipped = SHIPPED.some((folder) => path.startsWith(`${folder}/`));
	if (!isShipped || isTest(path) || isTestSupport(path) || KEPT_HOME.test(path)) return [];
	return imports
		.filter(({ relative, target }) => !relative && !target.startsWith('node:') && !runtime.includes(target))
		.map(({ target }) => `${path} imports ${target}`);
}

function strayImports({ path, imports }: Source): string[] {
	const layer = layerOf(layers, path);
	if (layer === undefined) return [];
	return imports
		.filter(
			({ relative, target }) =>
				relative && !mayImport(layers, layer, target) && !(isTest(path) && testMayImport(path, target)),
		)
		.map(
			({ target, line }) =>
				`${path}:${line}: ${layer} may not import ${target}${existsSync(join(ROOT, target)) ? '' : ' (which does not exist)'}`,
		);
}

/** A unit test may build its subject from the real parts of its own side, e.g. a use case on the real SQLite store. */
function testMayImport(path: string, target: string): boolean {
	const side = path.split('/')[0] ?? '';
	return (
		target.startsWith(`${side}/`) ||
		Object.entries(layers.layers).some(
			([name, imports]) => name.startsWith(side) && imports.some((allowed) => covers(allowed, target)),
		)
	);
}

function strayPackages({ path, imports }: Source): string[] {
	const testing = isTest(path) || isTestSupport(path);
	return imports.flatMap(({ relative, target, line }) => {
		if (relative) return [];
		const owners = target.startsWith('node:') ? layers.builtins[target] : layers.packages[target];
		if (target.startsWith('node:') && (owners === undefined || testing)) return [];
		if (layers.testOnly.includes(target))
			return testing || path === 'vitest.config.ts' ? [] : [`${path}:${line}: only tests may import ${target}`];
		if (owners === undefined) return [`${path}:${line}: ${target} has no owner in layers.json`];
		const owned = testing || owners.some((owner) => covers(owner, path));
		return owned
			? []
			: [`${path}:${line}: ${target} belongs to ${owners.join(', ') || 'nobody'}; call that layer instead`];
	});
}

/**
 * Paths that come back to where they began. Types of one folder may refer to each other, and what is loaded lazily
 * orders nothing; types across folders count: they tie the folders together.
 */
function cycles(files: readonly Source[]): string[] {
	const counts = (path: string, { relative, kind, target }: Import) =>
		relative && (kind === 'value' || (kind === 'type' && dirname(path) !== dirname(target)));
	const graph = new Map(
		files.map(({ path, imports }) => [path, imports.filter((each) => counts(path, each)).map(({ target }) => target)]),
	);
	const done = new Set<string>();
	const found: string[] = [];
	const visit = (path: string, trail: string[]): void => {
		const start = trail.indexOf(path);
		if (start >= 0) {
			found.push([...trail.slice(start), path].join(' -> '));
			return;
		}
		if (done.has(path)) return;
		for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
		done.add(path);
	};
	for (const path of graph.keys()) visit(path, []);
	return found;
}

test('the repository has files to look at', () => {
	expect(listFiles().length).toBeGreaterThan(20);
	expect(sources.length).toBeGreaterThan(20);
});
