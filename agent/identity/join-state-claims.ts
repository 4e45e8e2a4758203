import { GpuaasError } from '../../kit/error.ts';

/** What a join state says, read without its key: only the control plane can check it, the agent only carries it. */
export function joinStateClaims(jws: string): { readonly nodeId: string; readonly renewalSeq: number } {
	const payload = jws.split('.')[1] ?? '';
	try {
		const value: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
		if (typeof value === 'object' && value !== null && 'node_id' in value && 'renewal_seq' in value) {
			const { node_id: nodeId, renewal_seq: renewalSeq } = value;
			if (typeof nodeId === 'string' && typeof renewalSeq === 'number') return { nodeId, renewalSeq };
		}
	} catch {
		// Falls through: one message for everything that can't be read.
	}
	throw new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'JOIN_STATE_INVALID',
		message: 'the join state that this host was given or has stored is unreadable; enroll it again with a new token',
	});
}
