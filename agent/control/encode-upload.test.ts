import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { UploadOutputRequestSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { OutputStream } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { encodeUpload } from './encode-upload.ts';

test('a chunk has the bytes that the general encoder gives', () => {
	const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
	const chunk = fc.record({
		offset: u64,
		stream: fc.constantFrom(OutputStream.UNSPECIFIED, OutputStream.STDOUT, OutputStream.STDERR),
		data: fc.uint8Array({ maxLength: 40_000, size: 'max' }),
		droppedBytes: u64,
	});
	fc.assert(
		fc.property(chunk, (value) => {
			const request = create(UploadOutputRequestSchema, { message: { case: 'chunk', value } });
			expect(encodeUpload(request)).toEqual(Buffer.from(toBinary(UploadOutputRequestSchema, request)));
		}),
		{ numRuns: 300, examples: [[{ offset: 0n, stream: 0, data: new Uint8Array(1), droppedBytes: 0n }]] },
	);
});

test('so have the other messages', () => {
	const taskId = '018f4d7e-0000-7000-8000-000000000000';
	for (const message of [
		{ case: 'hello', value: { taskId, attempt: 2, fencingToken: 7n } },
		{ case: 'end', value: { nextOffset: 9n } },
	] as const) {
		const request = create(UploadOutputRequestSchema, { message });
		expect(encodeUpload(request)).toEqual(Buffer.from(toBinary(UploadOutputRequestSchema, request)));
	}
});
