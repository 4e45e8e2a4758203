import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { CreateTaskRequestSchema } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { approvalDigest, readableRequest } from './digest.ts';

const request = (value: string) =>
	create(CreateTaskRequestSchema, {
		node: 'gpu-1',
		spec: { kind: { case: 'run', value: { argv: ['/bin/true'], env: { PASSWORD: value } } } },
	});

test('whoever decides reads what is asked for, without its secrets', () => {
	const asked = request('hunter2');
	const shown = readableRequest(CreateTaskRequestSchema, asked);
	expect(shown).toContain('gpu-1');
	expect(shown).toContain('/bin/true');
	expect(shown).not.toContain('hunter2');
	expect(asked).toEqual(request('hunter2'));
});

test('what is bound is the whole request, its secrets too', () => {
	const digestOf = (value: string) =>
		approvalDigest({
			...{ method: 'CreateTask', input: CreateTaskRequestSchema, request: request(value) },
			...{ requesterId: 'robot', expiresAtMs: 1 },
		});
	expect(digestOf('one')).toEqual(digestOf('one'));
	expect(digestOf('one')).not.toEqual(digestOf('two'));
});
