import { create, type DescMessage, type MessageInitShape } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import { expect, test } from 'vitest';
import { CreateGuardrailRequestSchema, CreateRoleRequestSchema } from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { AssignNodeRequestSchema } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { ChannelSpecSchema } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { CreateTokenRequestSchema } from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { violationText } from '../../../proto/violation-text.ts';

const validator = createValidator();

function said<D extends DescMessage>(desc: D, request: MessageInitShape<D>): readonly string[] {
	const result = validator.validate(desc, create(desc, request));
	if (result.kind !== 'invalid') throw new Error(result.kind);
	return result.violations.map(violationText).map(({ field, description }) => `${field}: ${description}`);
}

test('what breaks a pattern is told what it must be, in words', () => {
	expect(said(CreateTokenRequestSchema, { nodeName: 'Gpu_07', labels: { 'Rack!': 'a b' } })).toEqual([
		'node_name: must be lower case letters and digits, with - only between them, at most 63 characters',
		'labels["Rack!"]: the key in the brackets must be lower case letters and digits, with . _ / - only between them, at most 63 characters',
		'labels["Rack!"]: may have letters, digits and . _ - only',
	]);
	expect(said(CreateRoleRequestSchema, { parent: '', id: 'A', displayName: 'a', permissions: ['everything'] })).toEqual(
		[
			'parent: must not be empty',
			'id: must be lower case letters, digits and -, a letter or digit first',
			expect.stringMatching(/^permissions\[0\]: must be a permission, such as tasks.create/),
		],
	);
	const kind = { case: 'exec' as const, value: { argv: [], cwd: 'there' } };
	expect(said(ChannelSpecSchema, { kind, user: '0ad' })).toEqual([
		'exec.argv: must have at least one',
		'exec.cwd: must be an absolute path: one that begins with /',
		expect.stringMatching(/^user: must be the name of an account/),
	]);
});

test('what must be one of some is told which', () => {
	expect(said(AssignNodeRequestSchema, { node: 'n', organization: 'o', project: 'p' })).toEqual([
		'mode: must be one of ASSIGNMENT_MODE_HOST, ASSIGNMENT_MODE_SLICE, ASSIGNMENT_MODE_OPERATOR',
	]);
});

test('what is words already stays', () => {
	expect(said(CreateGuardrailRequestSchema, { parent: 'p', reason: 'x'.repeat(10_000) })).toContainEqual(
		expect.stringMatching(/^reason: must be at most \d+ characters$/),
	);
});
