import { basename } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listMethods, nameOf, readContract } from './contract.ts';
import { listFiles, readText } from './sources.ts';

/**
 * Every noun has one owner (ownership.json). The guard finds services, tables, events and workers that no noun claims: in mode
 * `warn` it says so, in mode `enforce` it fails, so that a product can't grow its own identity, billing or audit.
 */
interface Noun {
	readonly owner: 'platform' | 'product';
	readonly rpcs: readonly string[];
	readonly tables: readonly string[];
	readonly events: readonly string[];
	readonly routes: readonly string[];
	readonly console: readonly string[];
	readonly workers: readonly string[];
}

type Surface = Exclude<keyof Noun, 'owner'>;

const ownership = JSON.parse(readText('test/architecture/ownership.json')) as {
	readonly mode: 'warn' | 'enforce';
	readonly nouns: Readonly<Record<string, Noun>>;
};
const SURFACES: readonly Surface[] = ['rpcs', 'tables', 'events', 'routes', 'console', 'workers'];

describe('ownership.json', () => {
	test('each noun has an owner and every surface', () => {
		for (const [name, noun] of Object.entries(ownership.nouns)) {
			expect(['platform', 'product'], name).toContain(noun.owner);
			for (const surface of SURFACES) expect(Array.isArray(noun[surface]), `${name}.${surface}`).toBe(true);
		}
		expect(['warn', 'enforce']).toContain(ownership.mode);
	});

	test('no prefix belongs to two nouns', () => {
		for (const surface of SURFACES) {
			const prefixes = Object.values(ownership.nouns).flatMap((noun) => noun[surface]);
			expect(
				prefixes.filter((prefix, index) => prefixes.indexOf(prefix) !== index),
				surface,
			).toEqual([]);
		}
	});

	test('what money, identity and proof stand on belongs to the platform', () => {
		for (const name of ['iam', 'ledger', 'audit', 'certificates', 'evidence'])
			expect(ownership.nouns[name]?.owner, name).toBe('platform');
	});
});

describe('the guard', () => {
	test('every service has a noun', async () => {
		report('rpcs', listMethods(await readContract()).map(nameOf));
	});

	test('every table has a noun', () => {
		const migrations = listFiles().filter(
			(path) => path.startsWith('control-plane/store/migrations/') && path.endsWith('.sql'),
		);
		report(
			'tables',
			migrations.flatMap((path) => tablesIn(readText(path))),
		);
	});

	test('every worker has a noun', () => {
		const workers = listFiles().filter((path) =>
			/^control-plane\/(reconcilers|workflows)\/[^/]+(?<!\.test)\.ts$/.test(path),
		);
		report(
			'workers',
			workers.map((path) => basename(path, '.ts')),
		);
	});

	test('every event has a noun', () => {
		const code = listFiles().filter((path) => /^control-plane\/.*(?<!\.test)\.ts$/.test(path));
		const topics = code.flatMap((path) => topicsIn(readText(path)));
		expect(topics.length).toBeGreaterThan(20);
		report('events', topics);
	});

	test('what nobody owns is found', () => {
		expect(unowned('rpcs', ['gpuaas.tasks.v1.TaskService/GetTask', 'acme.billing.v1.BillingService/Charge'])).toEqual([
			'acme.billing.v1.BillingService/Charge',
		]);
		expect(unowned('workers', ['dispatch', 'acme-billing'])).toEqual(['acme-billing']);
		expect(topicsIn("append({ topic: 'acme.charged', key }); subscribe('acme.paid', () => {});")).toEqual([
			'acme.charged',
			'acme.paid',
		]);
		expect(tablesIn('CREATE TABLE tasks (a);\ncreate table if not exists "acme_invoices" (b);')).toEqual([
			'tasks',
			'acme_invoices',
		]);
	});
});

function unowned(surface: Surface, names: readonly string[]): string[] {
	const prefixes = Object.values(ownership.nouns).flatMap((noun) => noun[surface]);
	return [...new Set(names)].filter((name) => !prefixes.some((prefix) => name.startsWith(prefix)));
}

function report(surface: Surface, names: readonly string[]): void {
	const found = unowned(surface, names);
	if (ownership.mode === 'enforce') expect(found, `name their noun in ownership.json under ${surface}`).toEqual([]);
	else if (found.length > 0) console.warn(`ownership (${surface}): no noun owns ${found.join(', ')}`);
}

function topicsIn(code: string): string[] {
	return [...code.matchAll(/(?:\btopic: |\bsubscribe\()'([a-z]+\.[^']+)'/g)].map((match) => match[1] ?? '');
}

function tablesIn(sql: string): string[] {
	return [...sql.matchAll(/create\s+table\s+(?:if\s+not\s+exists\s+)?["'`]?([a-z_][a-z0-9_]*)/gi)].map(
		(match) => match[1] ?? '',
	);
}
