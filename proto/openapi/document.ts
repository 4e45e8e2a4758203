import { type DescFile, type DescMethod, getOption, hasOption } from '@bufbuild/protobuf';
import {
	AuditClass,
	Caller,
	Idempotency,
	type MethodPolicy,
	policy as policyOption,
	RateClass,
	ScopeSource,
	StepUp,
} from '../gen/gpuaas/common/v1/policy_pb.ts';
import { errorResponses, errorSchemas } from './errors.ts';
import { compact, type Json, type JsonObject } from './json.ts';
import { type CommentOf, Schemas } from './schemas.ts';

const DESCRIPTION = `Every call is a POST of a JSON document to \`/<service>/<method>\` (the Connect protocol, unary). An absent field means its zero value.

64-bit integers travel as strings, bytes as base64, times as RFC 3339, durations as seconds with the suffix \`s\`.
Errors carry a \`code\`, a message that says what to do next, and \`google.rpc.ErrorInfo\` with a stable \`reason\`.
\`x-policy\` shows what each method requires; \`x-data-class\` marks personal and secret fields.
Methods that stream are not listed here; ListTaskOutput reads by offset what FollowTask streams.`;

export function openApiDocument(files: readonly DescFile[], commentOf: CommentOf): JsonObject {
	const schemas = new Schemas(commentOf);
	const paths: Record<string, Json> = {};
	const tags: Json[] = [];
	const sorted = [...files].sort((a, b) => a.proto.name.localeCompare(b.proto.name, 'en'));
	for (const service of sorted.flatMap((file) => file.services)) {
		const methods = service.methods.filter(isListed);
		if (methods.length === 0) continue;
		tags.push(compact({ name: service.name, description: commentOf(service) || undefined }));
		for (const method of methods)
			paths[`/${service.typeName}/${method.name}`] = { post: operation(method, schemas, commentOf) };
	}
	return {
		openapi: '3.1.0',
		info: {
			title: 'GPUaaS API',
			version: 'v1',
			description: DESCRIPTION,
			license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
		},
		servers: [
			{
				url: 'https://{host}:{port}',
				description: 'The control plane',
				variables: { host: { default: 'localhost' }, port: { default: '8443' } },
			},
		],
		security: [{ bearer: [] }],
		tags,
		paths,
		components: {
			securitySchemes: {
				bearer: {
					type: 'http',
					scheme: 'bearer',
					description: 'An API key (`gpu_uk_...`, `gpu_sk_...`) or an access token.',
				},
			},
			schemas: { ...errorSchemas(sorted), ...schemas.build() },
			responses: errorResponses(),
		},
	};
}

/** Agents and joining hosts speak on listeners of their own. */
function isListed(method: DescMethod): boolean {
	const { caller } = policyOf(method);
	return method.methodKind === 'unary' && (caller === Caller.PRINCIPAL || caller === Caller.ANYONE);
}

function policyOf(method: DescMethod): MethodPolicy {
	if (!hasOption(method, policyOption))
		throw new Error(`${method.parent.typeName}/${method.name} has no (gpuaas.common.v1.policy)`);
	return getOption(method, policyOption);
}

function operation(method: DescMethod, schemas: Schemas, commentOf: CommentOf): JsonObject {
	const comment = commentOf(method);
	const policy = policyOf(method);
	return compact({
		operationId: `${method.parent.name}.${method.name}`,
		summary: summaryOf(method, comment),
		description: comment || undefined,
		tags: [method.parent.name],
		security: policy.caller === Caller.ANYONE ? [] : undefined,
		requestBody: { required: true, content: { 'application/json': { schema: schemas.reference(method.input) } } },
		responses: {
			'200': { description: 'Done.', content: { 'application/json': { schema: schemas.reference(method.output) } } },
			...responseReferences(policy),
		},
		'x-policy': policyJson(policy),
	});
}

/** `CancelTask` -> `Cancel task`, or the comment's first sentence. */
function summaryOf(method: DescMethod, comment: string): string {
	const sentence = /^[^.:]{1,100}(?=[.:])/.exec(comment.replaceAll(/\s+/g, ' '))?.[0];
	const words = method.name.replaceAll(/(?<=[a-z])([A-Z])/g, (letter) => ` ${letter.toLowerCase()}`);
	return sentence ?? words;
}

function responseReferences(policy: MethodPolicy): Record<string, Json> {
	const statuses = ['400', '429', '500', '503', '504'];
	if (policy.caller !== Caller.ANYONE) statuses.push('401', '403');
	if (policy.scopeField !== '') statuses.push('404');
	if (policy.idempotency !== Idempotency.SAFE) statuses.push('409');
	return Object.fromEntries(statuses.sort().map((status) => [status, { $ref: `#/components/responses/${status}` }]));
}

function policyJson(policy: MethodPolicy): JsonObject {
	return compact({
		caller: nameOf(Caller, policy.caller),
		permission: policy.permission || undefined,
		scope: nameOf(ScopeSource, policy.scope),
		scopeField: policy.scopeField || undefined,
		audit: nameOf(AuditClass, policy.audit),
		stepUp: policy.stepUp === StepUp.REQUIRED,
		idempotency: nameOf(Idempotency, policy.idempotency),
		rate: nameOf(RateClass, policy.rate),
	});
}

function nameOf(values: Readonly<Record<string, number>>, value: number): string {
	return (
		Object.keys(values)
			.find((name) => values[name] === value)
			?.toLowerCase() ?? 'unspecified'
	);
}
