import { create, type DescMessage, type DescService, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { hasRuns, runOf } from './stream-data.ts';

/**
 * A grpc-js `ServiceDefinition` from a generated service: grpc-js needs only paths and codecs, so the contract stays
 * the one source and no second generator is needed. Structural on purpose: this folder doesn't own grpc-js.
 */
export interface GrpcMethod {
	readonly path: string;
	readonly requestStream: boolean;
	readonly responseStream: boolean;
	readonly requestSerialize: (message: Message) => Buffer;
	readonly requestDeserialize: (bytes: Buffer) => Message;
	readonly responseSerialize: (message: Message) => Buffer;
	readonly responseDeserialize: (bytes: Buffer) => Message;
}

const encoded = new WeakMap<Message, Buffer>();

/** For a message that goes to many: it is encoded now, and must not be changed any more. */
export function shareEncoded(desc: DescMessage, message: Message): void {
	encoded.set(message, codec(desc).serialize(message));
}

function codec(desc: DescMessage) {
	const mayHoldRun = hasRuns(desc);
	return {
		serialize: (message: Message): Buffer => {
			const shared = encoded.get(message);
			if (shared !== undefined) return shared;
			const run = mayHoldRun ? runOf(desc, message) : undefined;
			if (run !== undefined) return Buffer.concat([run.head, run.data]);
			const bytes = toBinary(desc, message);
			return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
		},
		deserialize: (bytes: Buffer): Message => (bytes.length === 0 ? create(desc) : fromBinary(desc, bytes)),
	};
}

/** Keys are the proto method names with a lower-case first letter, as grpc-js expects of handlers. */
export function grpcServiceDefinition(service: DescService): Record<string, GrpcMethod> {
	const methods: Record<string, GrpcMethod> = {};
	for (const method of service.methods) {
		const request = codec(method.input);
		const response = codec(method.output);
		methods[method.localName] = {
			path: `/${service.typeName}/${method.name}`,
			requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
			responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
			requestSerialize: request.serialize,
			requestDeserialize: request.deserialize,
			responseSerialize: response.serialize,
			responseDeserialize: response.deserialize,
		};
	}
	return methods;
}
