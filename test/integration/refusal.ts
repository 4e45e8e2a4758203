import { Code, ConnectError } from '@connectrpc/connect';
import { present } from '../../kit/assert.ts';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';

/** What a call was refused with; fails when it was not. */
export async function refusalOf(call: Promise<unknown>) {
	const thrown = await call.then(
		() => undefined,
		(error: unknown) => ConnectError.from(error),
	);
	const error = present(thrown, 'the call is refused');
	const [info] = error.findDetails(ErrorInfoSchema);
	const { reason, domain, metadata } = info ?? {};
	return { code: Code[error.code], reason, domain, metadata, message: error.rawMessage, error };
}
