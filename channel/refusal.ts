import { type ErrorCode, GpuaasError } from '../kit/error.ts';

/** Why the other side did not do something, as it travels in a frame: JSON of reason and sentence. */
export interface Refusal {
	readonly reason: string;
	readonly message: string;
}

const REASON = /^[A-Z][A-Z0-9_]{0,63}$/;
/** A sentence, not a document: what a stranger wrote is shown to a person. */
const MESSAGE_CHARACTERS_MAX = 1024;

export function encodeRefusal({ reason, message }: Refusal): Uint8Array {
	return Buffer.from(JSON.stringify({ reason, message: message.slice(0, MESSAGE_CHARACTERS_MAX) }), 'utf8');
}

/** Total: what can't be read is a refusal without an explanation. */
export function decodeRefusal(payload: Uint8Array): Refusal {
	try {
		const { reason, message } = JSON.parse(Buffer.from(payload).toString('utf8')) as Record<string, unknown>;
		if (typeof reason === 'string' && REASON.test(reason) && typeof message === 'string')
			return { reason, message: message.slice(0, MESSAGE_CHARACTERS_MAX) };
	} catch {
		// One answer for everything that isn't a refusal.
	}
	return { reason: 'CHANNEL_PROTOCOL', message: 'the other side refused and its reason could not be read' };
}

export function refusalError(refusal: Refusal, code: ErrorCode = 'FAILED_PRECONDITION'): GpuaasError {
	return new GpuaasError({ code, reason: refusal.reason, message: refusal.message });
}

/** What an error tells the other side; an unexpected one tells nothing of this machine. */
export function refusalOf(thrown: unknown): Refusal {
	const { reason, message } = GpuaasError.from(thrown);
	return thrown instanceof GpuaasError
		? { reason, message }
		: { reason, message: 'the other side failed in an unexpected way; look into its log' };
}
