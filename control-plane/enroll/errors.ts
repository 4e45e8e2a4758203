import { type Code, ConnectError } from '@connectrpc/connect';
import { CODE_NUMBER, GpuaasError } from '../../kit/error.ts';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';

/** AIP-193: every error carries `ErrorInfo`; causes stay in our log. */
export function connectErrorOf(thrown: unknown): ConnectError {
	const { code, reason, message, metadata } = GpuaasError.from(thrown);
	// Connect's codes are gRPC's numbers.
	const number: Code = CODE_NUMBER[code];
	const info = { desc: ErrorInfoSchema, value: { reason, domain: 'gpuaas', metadata: { ...metadata } } };
	return new ConnectError(message, number, undefined, [info]);
}
