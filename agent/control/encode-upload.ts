import { toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { type UploadOutputRequest, UploadOutputRequestSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type OutputChunk, OutputChunkSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';

/**
 * `UploadOutputRequest` in its wire format. A chunk's data is copied once, into a buffer of just the right size: the
 * general encoder copies it for each message that it is nested in, and all the memory that bulk passes through makes
 * garbage collections.
 */
export function encodeUpload(request: UploadOutputRequest): Buffer {
	const { message } = request;
	if (message.case === 'chunk' && message.value.data.length > 0) return encodeChunk(message.value);
	const bytes = toBinary(UploadOutputRequestSchema, request);
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const { chunk: CHUNK } = UploadOutputRequestSchema.field;
const { offset: OFFSET, stream: STREAM, data: DATA, droppedBytes: DROPPED_BYTES } = OutputChunkSchema.field;

/** Fields in the order of their numbers; zero is not written, as proto3 says. */
function encodeChunk({ offset, stream, data, droppedBytes }: OutputChunk): Buffer {
	const before = new BinaryWriter();
	if (offset !== 0n) before.tag(OFFSET.number, WireType.Varint).uint64(offset);
	if (stream !== 0) before.tag(STREAM.number, WireType.Varint).int32(stream);
	before.tag(DATA.number, WireType.LengthDelimited).uint32(data.length);
	const after = new BinaryWriter();
	if (droppedBytes !== 0n) after.tag(DROPPED_BYTES.number, WireType.Varint).uint64(droppedBytes);
	const head = before.finish();
	const tail = after.finish();
	const chunkBytes = head.length + data.length + tail.length;
	const wrapper = new BinaryWriter().tag(CHUNK.number, WireType.LengthDelimited).uint32(chunkBytes).finish();
	return Buffer.concat([wrapper, head, data, tail], wrapper.length + chunkBytes);
}
