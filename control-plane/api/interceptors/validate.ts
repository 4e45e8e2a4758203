import type { DescMessage, Message } from '@bufbuild/protobuf';
import { createValidator, type Validator } from '@bufbuild/protovalidate';
import type { Interceptor } from '@connectrpc/connect';
import { violationText } from '../../../proto/violation-text.ts';
import { stateOf } from '../call-state.ts';
import { InvalidRequest } from '../errors.ts';

/** The limits that the contract puts on each field (buf/validate), for every message that comes in. */
export function createValidation(): Interceptor {
	const validator = createValidator();
	return (next) => (request) => {
		const state = stateOf({ values: request.contextValues });
		const { input } = request.method;
		if (request.stream) {
			const checked = checkEach(validator, input, request.message, (message) => {
				// The first one names what the stream is about.
				state.request ??= message;
			});
			return next({ ...request, message: checked });
		}
		state.request = request.message;
		check(validator, input, request.message);
		return next(request);
	};
}

async function* checkEach(
	validator: Validator,
	desc: DescMessage,
	messages: AsyncIterable<Message>,
	onMessage: (message: Message) => void,
): AsyncGenerator<Message> {
	for await (const message of messages) {
		onMessage(message);
		check(validator, desc, message);
		yield message;
	}
}

function check(validator: Validator, desc: DescMessage, message: Message): void {
	const result = validator.validate(desc, message);
	if (result.kind === 'valid') return;
	if (result.kind === 'error') throw result.error;
	throw new InvalidRequest(result.violations.map(violationText));
}
