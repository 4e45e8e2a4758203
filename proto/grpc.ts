import { create, type DescMethod, type DescService, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';

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

function codec(desc: DescMethod['input']) {
	return {
		serialize: (message: Message): Buffer => {
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
