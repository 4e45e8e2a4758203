import { readFileSync } from 'node:fs';
import { Code } from '@connectrpc/connect';
import { expect, test } from 'vitest';

/** The committed document: what an independent client has to work from alone. */
type Node = Record<string, unknown>;
const document = JSON.parse(readFileSync(new URL('../openapi.json', import.meta.url), 'utf8')) as Node;
const schemas = (document.components as { schemas: Record<string, Node> }).schemas;
const paths = document.paths as Record<string, { post: Node }>;

function visit(node: unknown, each: (node: Node) => void): void {
	if (Array.isArray(node)) for (const item of node) visit(item, each);
	else if (typeof node === 'object' && node !== null) {
		each(node as Node);
		for (const value of Object.values(node)) visit(value, each);
	}
}

test('every reference leads somewhere', () => {
	const dangling: unknown[] = [];
	let references = 0;
	visit(document, (node) => {
		const { $ref } = node;
		if (typeof $ref !== 'string') return;
		references += 1;
		let target: unknown = document;
		for (const part of $ref.slice(2).split('/')) target = (target as Node | undefined)?.[part];
		if (target === undefined) dangling.push($ref);
	});
	expect(dangling).toEqual([]);
	expect(references).toBeGreaterThan(100);
});

test('it lists what principals may call, and nothing of agents, joiners or streams', () => {
	const names = Object.keys(paths);
	expect(names).toContain('/gpuaas.tasks.v1.TaskService/CreateTask');
	expect(names.filter((name) => /AgentLink|Enrollment|FollowTask|ExportAudit/.test(name))).toEqual([]);
	const ids = Object.values(paths).map(({ post }) => post.operationId);
	expect(new Set(ids).size).toBe(names.length);
});

test('an operation says what it requires', () => {
	const { post } = paths['/gpuaas.nodes.v1.NodeService/DrainNode'] ?? {};
	expect(post?.['x-policy']).toEqual({
		caller: 'principal',
		permission: 'nodes.drain',
		scope: 'node',
		scopeField: 'node',
		audit: 'mutation',
		stepUp: false,
		idempotency: 'request_id',
		rate: 'write',
	});
	expect(Object.keys(post?.responses as Node)).toEqual([
		'200',
		'400',
		'401',
		'403',
		'404',
		'409',
		'429',
		'500',
		'503',
		'504',
	]);
	expect(paths['/gpuaas.system.v1.SystemService/GetVersion']?.post.security).toEqual([]);
});

test('validation rules become keywords', () => {
	const { properties, required } = schemas['gpuaas.tasks.v1.RunSpec'] as {
		properties: Record<string, Node>;
		required: string[];
	};
	expect(required).toContain('argv');
	expect(properties.argv).toMatchObject({ type: 'array', minItems: 1, maxItems: 1024, 'x-data-class': 'personal' });
	expect(properties.env).toMatchObject({
		type: 'object',
		maxProperties: 256,
		propertyNames: { pattern: '^[A-Za-z_][A-Za-z0-9_]{0,127}$' },
		'x-data-class': 'secret',
	});
	const list = schemas['gpuaas.nodes.v1.ListNodesRequest'] as { properties: Record<string, Node> };
	expect(list.properties.pageSize).toMatchObject({ type: 'integer', minimum: 0, maximum: 1000 });
	const output = schemas['gpuaas.tasks.v1.ListTaskOutputRequest'] as { properties: Record<string, Node> };
	expect(output.properties.offset).toMatchObject({ type: 'string', format: 'uint64' });
});

test('patterns are valid in ECMA-262, which JSON Schema uses', () => {
	visit(document, (node) => {
		if (typeof node.pattern === 'string') expect(() => new RegExp(node.pattern as string, 'u')).not.toThrow();
	});
});

test("every code of Connect is documented, in Connect's spelling", () => {
	const { code } = (schemas['connect.Error'] as { properties: { code: { enum: string[] } } }).properties;
	const connect = Object.keys(Code)
		.filter((name) => Number.isNaN(Number(name)))
		.map((name) => name.replaceAll(/(?<=[a-z])([A-Z])/g, '_$1').toLowerCase());
	expect(new Set(code.enum)).toEqual(new Set(connect));
});
