import {
	type DescField,
	type DescMessage,
	type DescMethod,
	getOption,
	hasOption,
	ScalarType,
	toJson,
} from '@bufbuild/protobuf';
import { beforeAll, describe, expect, test } from 'vitest';
import { FieldRulesSchema, field as fieldRules } from '../../proto/gen/buf/validate/validate_pb.ts';
import {
	AuditClass,
	Caller,
	Idempotency,
	RateClass,
	ScopeSource,
	StepUp,
} from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { PATTERN_WORDS } from '../../proto/violation-text.ts';
import { dataClassOf, listMessages, listMethods, nameOf, policyOf, readContract } from './contract.ts';
import { unboundedFields } from './request-bounds.ts';
import { addedTo, grownEntries, readAllowList } from './shrink.ts';
import { listFiles, readText } from './sources.ts';

/**
 * What every RPC must have, read from the generated descriptors, so that none can forget authorization, audit, limits
 * or tests. surface-allow.json names what is still missing; it may only shrink, and an entry that is repaired must go.
 */
const ALLOW_FILE = 'test/architecture/surface-allow.json';
const PAGE_SIZE_MAX = 1000;
/** Names of fields that hold secrets or personal data; what is harmless all the same says so with an explicit class. */
const SENSITIVE =
	/(^|_)(tokens?|secret|password|passphrase|pepper|cookie|private_key|argv|env|environment|stdin|user|username|created_by|email|actor|peer|display_name|ip|ip_address)$/;
const NOT_SENSITIVE = /^(next_)?page_token$/;

let methods: readonly DescMethod[];
let messages: readonly DescMessage[];
const allow = readAllowList(ALLOW_FILE);

beforeAll(async () => {
	const contract = await readContract();
	methods = listMethods(contract);
	messages = listMessages(contract);
});

/** `found` must be what the allow-list says: nothing more, and nothing less. */
function expectOnlyAllowed(rule: string, found: readonly string[], repair: string): void {
	const allowed = allow[rule] ?? [];
	const fresh = found.filter((entry) => !allowed.includes(entry));
	const repaired = allowed.filter((entry) => !found.includes(entry));
	expect(fresh, `${repair}: ${fresh.join(', ')}`).toEqual([]);
	expect(repaired, `repaired: remove from ${rule} in ${ALLOW_FILE}: ${repaired.join(', ')}`).toEqual([]);
}

describe('policy', () => {
	test('every RPC declares every part of its policy', () => {
		const wrong = methods.flatMap((method) => {
			const policy = policyOf(method);
			if (policy === undefined) return [`${nameOf(method)}: no (gpuaas.common.v1.policy)`];
			const missing = [
				policy.caller === Caller.UNSPECIFIED && 'caller',
				policy.scope === ScopeSource.UNSPECIFIED && 'scope',
				policy.audit === AuditClass.UNSPECIFIED && 'audit',
				policy.stepUp === StepUp.UNSPECIFIED && 'step_up',
				policy.idempotency === Idempotency.UNSPECIFIED && 'idempotency',
				policy.rate === RateClass.UNSPECIFIED && 'rate',
			].filter((part) => part !== false);
			return missing.length === 0 ? [] : [`${nameOf(method)}: ${missing.join(', ')} not set`];
		});
		expect(wrong).toEqual([]);
		expect(methods.length).toBeGreaterThan(20);
	});

	test('principals need a permission, unless they ask about themselves; others have none', () => {
		const wrong = methods.filter((method) => {
			const policy = policyOf(method);
			const needed = policy?.caller === Caller.PRINCIPAL && policy.scope !== ScopeSource.CALLER;
			return needed ? !/^[a-z]+\.[a-z_]+$/.test(policy.permission) : policy?.permission !== '';
		});
		expect(wrong.map(nameOf)).toEqual([]);
	});

	test('a scope that comes from the request names a field of it', () => {
		const fromRequest: readonly ScopeSource[] = [
			ScopeSource.NODE,
			ScopeSource.TASK,
			ScopeSource.OPERATION,
			ScopeSource.SCOPE,
			ScopeSource.RECORDING,
			ScopeSource.TERMINAL,
		];
		const wrong = methods.filter((method) => {
			const policy = policyOf(method);
			if (policy === undefined) return false;
			const named = method.input.fields.some(
				(field) => field.name === policy.scopeField && field.scalar === ScalarType.STRING,
			);
			return fromRequest.includes(policy.scope) ? !named : policy.scopeField !== '';
		});
		expect(wrong.map(nameOf)).toEqual([]);
	});

	test('what can be repeated by key carries a request_id, and only that', () => {
		const wrong = methods.filter((method) => {
			const carries = method.input.fields.some(
				(field) => field.name === 'request_id' && field.scalar === ScalarType.STRING,
			);
			return (policyOf(method)?.idempotency === Idempotency.REQUEST_ID) !== carries;
		});
		expect(wrong.map(nameOf)).toEqual([]);
	});

	test('what changes nothing says so twice, and is audited as a read or not at all', () => {
		const wrong = methods.filter((method) => {
			const policy = policyOf(method);
			const safe = policy?.idempotency === Idempotency.SAFE;
			const declared = method.proto.options?.idempotencyLevel === 1;
			const quiet = policy?.audit === AuditClass.NONE || policy?.audit === AuditClass.READ;
			return (method.methodKind === 'unary' && safe !== declared) || (safe && !quiet);
		});
		expect(wrong.map(nameOf)).toEqual([]);
	});
});

describe('requests', () => {
	test('lists are paged, with a bound', () => {
		const wrong = methods.filter((method) => /^List[A-Z]/.test(method.name)).filter((method) => !isPaged(method));
		expect(
			wrong.map(nameOf),
			`page_size (int32, 0 to ${PAGE_SIZE_MAX}) and page_token in, a repeated field and next_page_token out`,
		).toEqual([]);
	});

	test('no field can be filled without end', () => {
		expectOnlyAllowed('unboundedFields', unboundedFields(methods), 'add max_len, max_items or max_pairs');
	});

	test('a field without a bound is found, of each kind', () => {
		// Answers are ours to bound: as requests these would be filled without end.
		const found = unboundedFields(methods.map(({ output }) => ({ input: output })));
		expect(found).toEqual(
			expect.arrayContaining([
				'gpuaas.audit.v1.AuditLeaf.leaf',
				'gpuaas.audit.v1.AuditRecord.action',
				'gpuaas.audit.v1.ListAuditRecordsResponse.records',
				'gpuaas.nodes.v1.Node.labels',
			]),
		);
	});

	test('a call is found in each form, and nothing else is one', () => {
		const [method] = methods.filter(({ name }) => name === 'CreateTask');
		const calls = [
			'client.createTask({})',
			'stub.CreateTask(x)',
			'TaskService.method.createTask',
			'TaskService/CreateTask',
		];
		expect(calls.map((text) => method !== undefined && isCalled(method, `gpuaas.tasks.v1.${text}`))).toEqual([
			true,
			true,
			true,
			true,
		]);
		const others = ['client.createTasks({})', 'createTask', 'TaskService/CreateTaskX', 'client.recreateTask('];
		expect(others.map((text) => method !== undefined && isCalled(method, text))).toEqual([false, false, false, false]);
	});

	test('fields that hold secrets or personal data declare their class', () => {
		const wrong = messages.flatMap((message) =>
			message.fields
				.filter((field) => isSensitive(field) && dataClassOf(field) === undefined)
				.map((field) => `${message.typeName}.${field.name}`),
		);
		expect(wrong, 'add (gpuaas.common.v1.data_class)').toEqual([]);
		expect(messages.flatMap((message) => message.fields.filter(isSensitive)).length).toBeGreaterThan(5);
	});
});

describe('implementation', () => {
	test('every RPC is served', () => {
		const served = textOf(/^control-plane\/(api|enroll|gateway)\/.*(?<!\.test)\.ts$/);
		const missing = methods.filter((method) => !new RegExp(`\\b${method.localName}\\b`).test(served));
		expectOnlyAllowed('rpcsNotServed', missing.map(nameOf), 'add its handler');
	});

	test('every RPC is called by an integration or conformance test', () => {
		const tests = textOf(/^test\/(integration|conformance)\//);
		const missing = methods.filter((method) => !isCalled(method, tests));
		expectOnlyAllowed('rpcsNotTested', missing.map(nameOf), 'call it in test/integration, over the wire');
	});

	test('every rate class has a limit', () => {
		const limits = textOf(/^control-plane\/.*(?<!\.test)\.ts$/);
		const used = new Set(methods.map((method) => policyOf(method)?.rate ?? RateClass.UNSPECIFIED));
		const names = Object.entries(RateClass)
			.filter(([, value]) => used.has(value as RateClass))
			.map(([name]) => name);
		expectOnlyAllowed(
			'rateClassesWithoutLimit',
			names.filter((name) => !limits.includes(`RateClass.${name}`)),
			'give it a rate and a burst',
		);
	});
});

describe('the allow-list', () => {
	test('only shrinks', () => {
		expect(grownEntries(ALLOW_FILE), 'repair the RPC instead').toEqual([]);
	});

	test('growth is found', () => {
		expect(addedTo({ a: ['1', '2'] }, { a: ['2', '3'], b: ['4'] })).toEqual(['a: 3', 'b: 4']);
		expect(addedTo({ a: ['1', '2'] }, { a: [] })).toEqual([]);
	});
});

function isPaged(method: DescMethod): boolean {
	const { input, output } = method;
	// Bytes are read by offset; the answer says how far it came.
	if (
		input.fields.some((field) => field.name === 'offset') &&
		output.fields.some((field) => field.name === 'next_offset')
	)
		return true;
	const size = input.fields.find((field) => field.name === 'page_size');
	const rules = size !== undefined && hasOption(size, fieldRules) ? getOption(size, fieldRules) : undefined;
	const limit =
		rules?.type.case === 'int32' && rules.type.value.lessThan.case === 'lte'
			? rules.type.value.lessThan.value
			: undefined;
	return (
		limit !== undefined &&
		limit <= PAGE_SIZE_MAX &&
		input.fields.some((field) => field.name === 'page_token') &&
		output.fields.some((field) => field.name === 'next_page_token') &&
		output.fields.some((field) => field.fieldKind === 'list')
	);
}

function isSensitive(field: DescField): boolean {
	const holdsText =
		field.scalar === ScalarType.STRING ||
		field.scalar === ScalarType.BYTES ||
		field.fieldKind === 'map' ||
		(field.fieldKind === 'list' && field.listKind === 'scalar');
	return holdsText && SENSITIVE.test(field.name) && !NOT_SENSITIVE.test(field.name);
}

/** `client.createTask(`, `stub.CreateTask(`, `TaskService.method.createTask`, or the path that curl posts to. */
function isCalled(method: DescMethod, text: string): boolean {
	const { name, localName, parent } = method;
	return new RegExp(
		`\\.(${localName}|${name})\\(|\\.method\\.${localName}\\b|${parent.typeName.replaceAll('.', '\\.')}/${name}\\b`,
	).test(text);
}

function textOf(paths: RegExp): string {
	return listFiles()
		.filter((path) => paths.test(path) && /\.(ts|py|sh|go)$/.test(path))
		.map(readText)
		.join('\n');
}

test('every pattern of the contract is told in words, and no words are of none', () => {
	const patterns = messages
		.flatMap(({ fields }) => fields)
		.filter((field) => hasOption(field, fieldRules))
		.flatMap((field) => patternsIn(toJson(FieldRulesSchema, getOption(field, fieldRules))));
	expect(Object.keys(PATTERN_WORDS).sort(), 'proto/violation-text.ts').toEqual([...new Set(patterns)].sort());
});

/** At whatever depth: of a string, of the items of a list, of keys and values of a map. */
function patternsIn(rules: unknown): string[] {
	if (typeof rules !== 'object' || rules === null) return [];
	return Object.entries(rules).flatMap(([name, value]) =>
		name === 'pattern' && typeof value === 'string' ? [value] : patternsIn(value),
	);
}
