import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Custody } from '../../../pki/keys/signer.ts';
import type { BundleAuthority, TrustBundle } from '../../../pki/trust/bundle.ts';
import { type AuthorityState, authorityStates, issuingKeyId, type Rotation } from '../../../pki/trust/rotation.ts';
import type { SignatureAlgorithm } from '../../../pki/verify/signature.ts';
import { parseCertificate } from '../../../pki/x509/parse.ts';

/**
 * The certificate authority's public state: everything but private keys, which the key store holds under `keyName`.
 * One JSON document with a version in the store, so that replicas agree by compare-and-set. The trust bundle that
 * nodes get is a function of it.
 */
export interface AuthorityDocument {
	readonly format: typeof DOCUMENT_FORMAT;
	readonly trustDomain: string;
	/** Sequence of the bundle that this document gives; rises with every change of the bundle. */
	readonly bundleSeq: number;
	readonly root: StoredAuthority;
	readonly auditKey: StoredKey & { readonly name: string };
	readonly joinStateKey: StoredKey;
	/** The set that issues, and during a rotation the one before or after it. */
	readonly sets: readonly IssuingSet[];
	/** Of the node CA; the replica CA and the task signer of the same set go with it. Null before the first. */
	readonly rotation: Rotation | null;
	/** Of `rotation`. Absent in documents of releases whose rotations only people carried on. */
	readonly progress?: RotationProgress;
}

export interface RotationProgress {
	/** When the phase began. */
	readonly sinceMs: number;
	/** A person has taken the newest step back: the next one forward is theirs, too. */
	readonly isHeld: boolean;
}

/** What a rotation replaces together. */
export interface IssuingSet {
	/** From 1; part of the key names. */
	readonly number: number;
	readonly node: StoredAuthority;
	readonly replica: StoredAuthority;
	/** Newest last; more than one while envelopes of the older may be under way. */
	readonly taskSigners: readonly StoredTaskSigner[];
}

export interface StoredKey {
	readonly keyName: string;
	readonly keyId: string;
	readonly algorithm: SignatureAlgorithm;
	readonly custody: Custody;
	/** SPKI DER, base64. */
	readonly spki: string;
}

export interface StoredAuthority extends StoredKey {
	/** DER, base64. */
	readonly certificate: string;
	readonly notAfterMs: number;
}

export interface StoredTaskSigner extends StoredAuthority {
	readonly notBeforeMs: number;
	/** Nodes with a live session have it before it signs: see upkeep.ts. */
	readonly signsFromMs: number;
}

export const DOCUMENT_FORMAT = 'gpuaas-authority-v1';

export function encodeDocument(document: AuthorityDocument): string {
	return JSON.stringify(document);
}

/** The store holds only what encodeDocument wrote, so the format decides; throws STORE_UNAVAILABLE for another one. */
export function decodeDocument(text: string): AuthorityDocument {
	const value: unknown = JSON.parse(text);
	if (isDocument(value)) return value;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'STORE_UNAVAILABLE',
		message: `the stored certificate authority isn't in the format ${DOCUMENT_FORMAT}: start the version that wrote it`,
	});
}

function isDocument(value: unknown): value is AuthorityDocument {
	return typeof value === 'object' && value !== null && 'format' in value && value.format === DOCUMENT_FORMAT;
}

export function derOf(base64: string): Uint8Array {
	return new Uint8Array(Buffer.from(base64, 'base64'));
}

export function base64Of(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString('base64');
}

/** Node CA key id -> what the bundle says about it. A set that isn't in the map isn't in the bundle. */
export function setStates(document: AuthorityDocument): ReadonlyMap<string, AuthorityState> {
	const [first] = document.sets;
	if (document.rotation !== null) return authorityStates(document.rotation);
	return new Map([[present(first, 'an authority has an issuing set').node.keyId, 'active']]);
}

/** No rotation is under way: none was, or the last one ended. One that was taken back to its start still is. */
export function isIdle({ rotation }: Pick<AuthorityDocument, 'rotation'>): boolean {
	return rotation === null || rotation.phase === 'revoked';
}

/** When the set issues nothing more, and nothing of it is left: its two CAs are of one age. */
export function endOf({ node, replica }: IssuingSet): number {
	return Math.min(node.notAfterMs, replica.notAfterMs);
}

/** Whether what it issues is valid: it has not ended, and was not made by a clock that was ahead. */
export function isUsable(set: IssuingSet, nowMs: number): boolean {
	const isBegun = [set.node, set.replica].every(({ certificate }) => {
		const parsed = parseCertificate(derOf(certificate));
		return parsed.kind === 'ok' && parsed.certificate.notBeforeMs <= nowMs;
	});
	return isBegun && nowMs < endOf(set);
}

/** The set that new certificates come from. */
export function issuingSet(document: AuthorityDocument): IssuingSet {
	const { rotation, sets } = document;
	const keyId = rotation === null ? sets[0]?.node.keyId : issuingKeyId(rotation);
	return present(
		sets.find(({ node }) => node.keyId === keyId),
		'the issuing set is in the document',
	);
}

export function bundleOf(document: AuthorityDocument): TrustBundle {
	const states = setStates(document);
	const authorities: BundleAuthority[] = [
		{ role: 'root', state: 'active', certificateDer: derOf(document.root.certificate) },
	];
	const taskSigners: Uint8Array[] = [];
	for (const set of document.sets) {
		const state = states.get(set.node.keyId);
		if (state === undefined) continue;
		authorities.push({ role: 'node', state, certificateDer: derOf(set.node.certificate) });
		authorities.push({ role: 'replica', state, certificateDer: derOf(set.replica.certificate) });
		for (const signer of set.taskSigners) taskSigners.push(derOf(signer.certificate));
	}
	const { name, spki } = document.auditKey;
	return {
		trustDomain: document.trustDomain,
		sequence: document.bundleSeq,
		authorities,
		taskSigners,
		auditKey: { name, spki: derOf(spki) },
	};
}
