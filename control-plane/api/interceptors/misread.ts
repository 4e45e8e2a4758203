import { ConnectError, type HandlerContext } from '@connectrpc/connect';
import type { GpuaasError } from '../../../kit/error.ts';
import { ErrorInfoSchema } from '../../../proto/gen/google/rpc/error_details_pb.ts';
import { fromThrown, isMisread, toConnectError } from '../errors.ts';

/**
 * Requests that never reach the interceptors because they cannot be read (bad JSON or protobuf, too large, a
 * decompression bomb, an unknown compression), and answers that cannot be written. In each protocol the framework ends
 * the call's signal with the error before it writes that error out: here it is put into our words, in place, so that
 * every caller gets a reason and an advice. What already is one of our errors stays.
 */
export function explainMisread(
	context: HandlerContext,
	isRequestRead: () => boolean,
	onMisread: (error: GpuaasError) => void,
): void {
	const explain = () => {
		const thrown: unknown = context.signal.reason;
		if (!(thrown instanceof ConnectError) || !isMisread(thrown)) return;
		if (thrown.findDetails(ErrorInfoSchema).length > 0) return;
		const isRead = isRequestRead();
		const error = fromThrown(thrown, isRead);
		const { code, rawMessage, message, details } = toConnectError(error);
		Object.assign(thrown, { code, rawMessage, message, details });
		if (!isRead) onMisread(error);
	};
	context.signal.addEventListener('abort', explain, { once: true });
}
