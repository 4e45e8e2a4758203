import { create } from '@bufbuild/protobuf';
import { StructSchema } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import {
	GetTaskResponseSchema,
	ListTasksResponseSchema,
	TaskSpecSchema,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { CreateTokenResponseSchema } from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { REDACTED, redactSecrets } from './redact-secrets.ts';

const spec = (env: Record<string, string>) => ({ kind: { case: 'run' as const, value: { argv: ['/bin/a'], env } } });

describe('redactSecrets', () => {
	it('blanks the values of a map and keeps its keys and everything else', () => {
		const message = create(TaskSpecSchema, spec({ TOKEN: 'hush', EMPTY: '' }));
		redactSecrets(TaskSpecSchema, message);
		expect(message).toEqual(create(TaskSpecSchema, spec({ TOKEN: REDACTED, EMPTY: REDACTED })));
	});

	it('finds secrets in messages of messages, one or many', () => {
		const one = create(GetTaskResponseSchema, { task: { id: 't', spec: spec({ A: 'hush' }) } });
		redactSecrets(GetTaskResponseSchema, one);
		expect(one).toEqual(create(GetTaskResponseSchema, { task: { id: 't', spec: spec({ A: REDACTED }) } }));
		const many = create(ListTasksResponseSchema, { tasks: [{ spec: spec({ A: 'x' }) }, { spec: spec({ B: 'y' }) }] });
		redactSecrets(ListTasksResponseSchema, many);
		expect(many.tasks.map((task) => task.spec?.kind.value)).toMatchObject([
			{ env: { A: REDACTED } },
			{ env: { B: REDACTED } },
		]);
	});

	it('blanks a text, and leaves an empty one empty', () => {
		const message = create(CreateTokenResponseSchema, { joinToken: 'gpj_hush' });
		redactSecrets(CreateTokenResponseSchema, message);
		expect(message.joinToken).toBe(REDACTED);
		const empty = create(CreateTokenResponseSchema);
		redactSecrets(CreateTokenResponseSchema, empty);
		expect(empty.joinToken).toBe('');
	});

	it('leaves a type that holds itself and no secrets as it is', () => {
		const message = create(StructSchema, { fields: { a: { kind: { case: 'stringValue', value: 'b' } } } });
		redactSecrets(StructSchema, message);
		expect(message.fields.a?.kind.value).toBe('b');
	});
});
