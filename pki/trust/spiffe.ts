import { assert } from '../../kit/assert.ts';

/**
 * Names in our certificates: SPIFFE ids `spiffe://<trust domain>/<kind>/<id>` and the gateway's DNS name.
 * The tenant is never in a name: hosts are re-let, and who holds one is a fact of the control plane.
 */
export type IdentityKind = 'node' | 'replica' | 'task-signer';

/** A DNS name in lower case, because `gateway.<trust domain>` must be one too. */
const TRUST_DOMAIN = /^(?=.{1,200}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const IDENTITY_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const SPIFFE_ID = /^spiffe:\/\/([^/]+)\/(node|replica|task-signer)\/([^/]+)$/;

export function isTrustDomain(text: string): boolean {
	return TRUST_DOMAIN.test(text);
}

export function isIdentityId(text: string): boolean {
	return IDENTITY_ID.test(text);
}

export function spiffeId(trustDomain: string, kind: IdentityKind, id: string): string {
	assert(isTrustDomain(trustDomain), 'a trust domain is a lower-case DNS name');
	assert(isIdentityId(id), 'an identity is 1 to 128 letters, digits, dots, dashes and underscores');
	return `spiffe://${trustDomain}/${kind}/${id}`;
}

/** The DNS name that every replica certificate carries and that agents check whatever address they dial. */
export function gatewayDnsName(trustDomain: string): string {
	return `gateway.${trustDomain}`;
}

export interface SpiffeId {
	readonly trustDomain: string;
	readonly kind: IdentityKind;
	readonly id: string;
}

/** Undefined for anything but one of our ids, byte for byte as `spiffeId` writes it. */
export function parseSpiffeId(uri: string): SpiffeId | undefined {
	const [, trustDomain, kind, id] = SPIFFE_ID.exec(uri) ?? [];
	if (trustDomain === undefined || id === undefined || !isTrustDomain(trustDomain) || !isIdentityId(id))
		return undefined;
	if (kind !== 'node' && kind !== 'replica' && kind !== 'task-signer') return undefined;
	return { trustDomain, kind, id };
}
