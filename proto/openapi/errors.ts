import type { DescFile } from '@bufbuild/protobuf';
import type { JsonObject } from './json.ts';

/** Connect's codes by the HTTP status that they travel under (connectrpc.com/docs/protocol#error-codes). */
const CODES_BY_STATUS: Readonly<Record<string, readonly string[]>> = {
	'400': ['invalid_argument', 'failed_precondition', 'out_of_range'],
	'401': ['unauthenticated'],
	'403': ['permission_denied'],
	'404': ['not_found'],
	'409': ['already_exists', 'aborted'],
	'429': ['resource_exhausted'],
	'499': ['canceled'],
	'500': ['internal', 'unknown', 'data_loss'],
	'501': ['unimplemented'],
	'503': ['unavailable'],
	'504': ['deadline_exceeded'],
};

const MEANING: Readonly<Record<string, string>> = {
	'400': 'The request is wrong, or the state does not allow it: change one of them before repeating.',
	'401': 'No valid credential came with the request.',
	'403': 'The credential is valid and does not allow this.',
	'404': 'No such object, or the caller may not know of it.',
	'409': 'It exists already, or it changed since it was read: read again, then repeat.',
	'429': 'Too many requests, or a quota is used up: repeat after the time in `retry_after_ms` of the details.',
	'499': 'The caller went away.',
	'500': 'A fault of the platform; the correlation id leads to its log.',
	'501': 'No such method.',
	'503': 'Not available now: repeat with backoff.',
	'504': 'The deadline passed; whether the call took effect is unknown.',
};

export function errorResponses(): JsonObject {
	return Object.fromEntries(
		Object.entries(CODES_BY_STATUS).map(([status, codes]) => [
			status,
			{
				description: `${MEANING[status] ?? ''} Code: ${codes.map((code) => `\`${code}\``).join(', ')}.`,
				content: { 'application/json': { schema: { $ref: '#/components/schemas/connect.Error' } } },
			},
		]),
	);
}

export function errorSchemas(files: readonly DescFile[]): JsonObject {
	const reasons = files
		.flatMap((file) => file.enums)
		.find((each) => each.typeName === 'gpuaas.common.v1.Reason')
		?.values.filter((value) => value.number !== 0)
		.map((value) => value.name.replace(/^REASON_/, ''));
	return {
		'connect.Error': {
			type: 'object',
			required: ['code'],
			properties: {
				code: { type: 'string', enum: Object.values(CODES_BY_STATUS).flat() },
				message: { type: 'string', description: 'What happened, what it means, what to do next.' },
				details: { type: 'array', items: { $ref: '#/components/schemas/connect.ErrorDetail' } },
			},
		},
		'connect.ErrorDetail': {
			type: 'object',
			required: ['type', 'value'],
			properties: {
				type: {
					type: 'string',
					description: 'The message type of `value`; every error has one `google.rpc.ErrorInfo`.',
				},
				value: {
					type: 'string',
					contentEncoding: 'base64',
					description: 'The message in protobuf encoding, base64 without padding.',
				},
				debug: {
					description: 'The same message as JSON.',
					anyOf: [{ $ref: '#/components/schemas/google.rpc.ErrorInfo' }, { type: 'object' }],
				},
			},
		},
		'google.rpc.ErrorInfo': {
			type: 'object',
			properties: {
				reason: { type: 'string', description: 'Stable; never reused. New ones may appear.', examples: reasons ?? [] },
				domain: { type: 'string' },
				metadata: { type: 'object', additionalProperties: { type: 'string' } },
			},
		},
	};
}
