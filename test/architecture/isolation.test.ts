import { beforeAll, describe, expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { loadMigrations } from '../../control-plane/store/migrations/files.ts';
import { rpcs } from '../isolation/cases.ts';
import { EXEMPT, exemptionOf } from '../isolation/exempt.ts';
import { ID_FIELDS, NO_ID_FIELDS, NO_REFERENCE, unclassifiedFields } from '../isolation/fields.ts';
import { listMethods, nameOf, policyOf, readContract } from './contract.ts';
import { listFiles, readText } from './sources.ts';

/** No RPC, field or table comes in without what keeps tenants apart there. */
let methods: ReturnType<typeof listMethods>;
beforeAll(async () => {
	methods = listMethods(await readContract());
});

describe('the isolation matrix', () => {
	test('has cases for every RPC, or a reason why there are none', () => {
		const withCases = new Set(rpcs().map(({ policy }) => policy.name));
		const without = methods.filter((method) => {
			const policy = policyOf(method);
			return policy === undefined || (exemptionOf(method, policy) === undefined && !withCases.has(nameOf(method)));
		});
		expect(without.map(nameOf), 'serve it on the API listener, or say in test/isolation/exempt.ts why not').toEqual([]);
		const empty = rpcs().filter(({ cases }) => cases.length === 0);
		expect(empty.map(({ policy }) => policy.name)).toEqual([]);
		expect(withCases.size).toBeGreaterThan(90);
	});

	test('exempts nothing that is not there', () => {
		const names = new Set(methods.map(nameOf));
		expect(Object.keys(EXEMPT).filter((name) => !names.has(name))).toEqual([]);
	});

	test('knows of every text of every request whether it can name what is another’s', () => {
		const api = API_SERVICES.flatMap((service) => service.methods);
		const unclassified = api.flatMap((method) => unclassifiedFields(method).map((field) => `${method.name}.${field}`));
		expect(unclassified, 'add it to ID_FIELDS or NO_ID_FIELDS in test/isolation/fields.ts').toEqual([]);
		const fields = new Set(api.flatMap((method) => method.input.fields.map(({ localName }) => localName)));
		const gone = [...Object.keys(ID_FIELDS), ...NO_ID_FIELDS].filter((name) => !fields.has(name));
		expect(gone, 'remove it from test/isolation/fields.ts').toEqual([]);
		const named = new Set(
			api.flatMap((method) => method.input.fields.map((field) => `${method.name}.${field.localName}`)),
		);
		expect([...NO_REFERENCE].filter((name) => !named.has(name))).toEqual([]);
	});
});

describe('tables of PostgreSQL', () => {
	test('each is given to row security in a schema change', () => {
		const sql = loadMigrations('pg')
			.map((migration) => migration.sql)
			.join('\n');
		const made = [...sql.matchAll(/CREATE TABLE (\w+)/g)].map(([, name = '']) => name);
		const gone = new Set([...sql.matchAll(/DROP TABLE (\w+)/g)].map(([, name = '']) => name));
		const isolating = sql.slice(sql.indexOf('SELECT gpuaas_isolate'));
		const open = made.filter((name) => !gone.has(name) && !isolating.includes(`'${name}'`));
		expect(
			open,
			"SELECT gpuaas_isolate('table', condition) in its schema change; docs/checklists/new-table.md",
		).toEqual([]);
		expect(made.length).toBeGreaterThan(35);
	});
});

describe('the platform’s eyes inside a tenant’s unit', () => {
	/** What asks for them, and why; each is looked at when it is added. */
	const AS_PLATFORM: Readonly<Record<string, string>> = {
		'control-plane/app/access/change-binding.ts': 'support people are of no organization',
		'control-plane/app/access/create-binding.ts': 'support people are of no organization; a limit over all bindings',
		'control-plane/app/access/guardrails.ts': 'a limit of the installation',
		'control-plane/app/audit/append.ts': 'the audit log is the platform’s',
		'control-plane/app/break-glass/end.ts': 'grants are the platform’s',
		'control-plane/app/iam/fresh-actor.ts': 'who the caller is',
		'control-plane/app/iam/policy-view.ts': 'who may do what, shared by all callers',
		'control-plane/app/login/end.ts': 'logins are the platform’s',
		'control-plane/app/nodes/gates.ts': 'a limit of the node, whose slices tenants share',
		'control-plane/app/nodes/name.ts': 'the name of the node of a record that was found',
		'control-plane/app/tasks/end-tasks.ts': 'closings are signed by the platform, hints are its own',
		'control-plane/app/terminals/open-channel.ts': 'a limit of the node, whose slices tenants share',
		'control-plane/app/terminals/share.ts': 'the platform’s people can be let into a terminal',
		'control-plane/app/use-case.ts': 'hints and kept answers are the platform’s',
	};

	test('are asked for in few places, each with its reason', () => {
		const asking = listFiles()
			.filter((path) => /^control-plane\/(?!store\/).*\.ts$/.test(path) && !path.endsWith('.test.ts'))
			.filter((path) => /\basPlatform\(/.test(readText(path)));
		expect(asking.toSorted()).toEqual(Object.keys(AS_PLATFORM));
	});

	test('row security is turned off in the isolation tests, and where its cost is measured, alone', () => {
		const turning = listFiles()
			.filter((path) => /\.(ts|json|toml|md|sh)$/.test(path) && path !== 'test/architecture/isolation.test.ts')
			.filter((path) => /\browSecurity\b/.test(readText(path)));
		expect(turning.toSorted()).toEqual([
			'control-plane/store/pg/pool.ts',
			'test/bench/admission.ts',
			'test/isolation/modes.ts',
		]);
	});
});
