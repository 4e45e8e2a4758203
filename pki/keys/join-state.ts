import { assert } from '../../kit/assert.ts';
import { VerifyKey } from '../verify/signature.ts';
import type { Signer } from './signer.ts';

/**
 * What a node was last told about itself, signed by the control plane and kept on the host: a compact JWS (RFC 7515,
 * EdDSA by RFC 8037). With every issue `renewalSeq` rises by one, so a copied state folder shows itself: the second of
 * two clones comes with an outdated number. It is also what brings back a node that was off past its expiry.
 */
export interface JoinState {
	readonly nodeId: string;
	/** 1 at enrollment, plus one with every issue. */
	readonly renewalSeq: number;
	/** Hex SHA-256 of the SPKI that was certified with it. */
	readonly spkiSha256Hex: string;
	readonly generation: number;
	readonly issuedAtMs: number;
}

const TYPE = 'gpuaas-join-state+jwt';
/** Also the limit of the contract's field. */
const JWS_CHARS_MAX = 4096;

export async function signJoinState(state: JoinState, signer: Signer): Promise<string> {
	assert(signer.algorithm === 'ed25519', 'join states are signed with EdDSA');
	const header = segment({ alg: 'EdDSA', kid: signer.keyId, typ: TYPE });
	const payload = segment({
		generation: state.generation,
		iat: Math.floor(state.issuedAtMs / 1000),
		node_id: state.nodeId,
		renewal_seq: state.renewalSeq,
		spki: state.spkiSha256Hex,
	});
	const signature = await signer.sign(Buffer.from(`${header}.${payload}`, 'ascii'));
	return `${header}.${payload}.${Buffer.from(signature).toString('base64url')}`;
}

export type JoinStateResult =
	| { readonly kind: 'ok'; readonly state: JoinState }
	| { readonly kind: 'refused'; readonly reason: 'JOIN_STATE_INVALID'; readonly message: string };

function refused(detail: string): JoinStateResult {
	return {
		kind: 'refused',
		reason: 'JOIN_STATE_INVALID',
		message: `the join state ${detail}; enroll this host again with a new token`,
	};
}

/** `keys` are the join-state keys that are still accepted, as SPKI DER. */
export function verifyJoinState(jws: string, keys: readonly Uint8Array[]): JoinStateResult {
	if (jws.length > JWS_CHARS_MAX) return refused(`is longer than ${JWS_CHARS_MAX} characters`);
	const [head, body, mac, ...rest] = jws.split('.');
	if (head === undefined || body === undefined || mac === undefined || rest.length > 0) return refused('is no JWS');
	const header = jsonOf(head);
	// The algorithm is ours to choose, never the token's (RFC 8725 section 3.1).
	if (header?.alg !== 'EdDSA' || header.typ !== TYPE) return refused('has another type or algorithm');
	if ('crit' in header) return refused('has extensions that must be understood');
	const key = keys.map((spki) => VerifyKey.parse(spki)).find((known) => known?.keyId === header.kid);
	if (key?.algorithm !== 'ed25519') return refused('is signed by a key that this control plane does not know');
	const signature = Buffer.from(mac, 'base64url');
	const signed = Buffer.from(`${head}.${body}`, 'ascii');
	if (signature.toString('base64url') !== mac || !key.verify(signed, signature))
		return refused('has a wrong signature');
	const state = stateOf(jsonOf(body));
	return state ? { kind: 'ok', state } : refused('has fields that no join state has');
}

function segment(value: object): string {
	return Buffer.from(JSON.stringify(value), 'utf8').toString('base64url');
}

function jsonOf(text: string): Record<string, unknown> | undefined {
	const bytes = Buffer.from(text, 'base64url');
	if (bytes.toString('base64url') !== text) return undefined;
	try {
		const value: unknown = JSON.parse(bytes.toString('utf8'));
		return isRecord(value) ? value : undefined;
	} catch {
		return undefined;
	}
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
	return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function stateOf(payload: Record<string, unknown> | undefined): JoinState | undefined {
	const { node_id: nodeId, renewal_seq: renewalSeq, spki, generation, iat } = payload ?? {};
	if (typeof nodeId !== 'string' || nodeId === '') return undefined;
	if (typeof spki !== 'string' || !/^[0-9a-f]{64}$/.test(spki)) return undefined;
	if (!isCount(renewalSeq) || renewalSeq === 0 || !isCount(generation) || !isCount(iat)) return undefined;
	return { nodeId, renewalSeq, spkiSha256Hex: spki, generation, issuedAtMs: iat * 1000 };
}
