import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { CreateTaskRequestSchema } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { CreateTokenRequestSchema } from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { withRequestFacts } from './request-facts.ts';

const event = { action: 'tasks.create', target: 'tasks/1', result: 'ok', reason: '' } as const;

describe('request facts', () => {
	const request = create(CreateTaskRequestSchema, {
		node: 'gpu-07',
		maxAttempts: 2,
		timeout: { seconds: 5n, nanos: 0 },
		spec: {
			kind: {
				case: 'run',
				value: { argv: ['deploy', '--for', 'Jane'], env: { PASSWORD: 'hunter2' }, user: 'jane', cwd: '/srv' },
			},
		},
	});

	test('the data class of each field decides: clear, committed, or only named', () => {
		const { detail, personal } = withRequestFacts(event, CreateTaskRequestSchema, request);
		expect(detail).toMatchObject({
			'request.node': 'gpu-07',
			'request.max_attempts': '2',
			'request.spec.run.cwd': '/srv',
			'request.spec.run.env': '[secret]',
		});
		expect(personal).toEqual({ 'request.spec.run.argv': '["deploy","--for","Jane"]', 'request.spec.run.user': 'jane' });
		expect(JSON.stringify(detail)).not.toMatch(/Jane|jane|hunter2/);
		expect(JSON.stringify(personal)).not.toContain('hunter2');
	});

	test('maps, what the event says itself, and the bound', () => {
		const token = create(CreateTokenRequestSchema, { labels: { rack: 'r3' }, nodeName: 'x'.repeat(400) });
		const { detail } = withRequestFacts(
			{ ...event, detail: { 'request.labels': 'mine' } },
			CreateTokenRequestSchema,
			token,
		);
		expect(detail?.['request.labels']).toBe('mine');
		expect(String(detail?.['request.node_name']).length).toBeLessThan(300);
		expect(withRequestFacts(event, CreateTokenRequestSchema, token).detail?.['request.labels']).toBe('{"rack":"r3"}');
	});
});
