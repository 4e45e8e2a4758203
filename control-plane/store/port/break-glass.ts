import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** A key that may speak when the identity provider can't: registered before, kept by one person. */
export interface BreakGlassKeyRow {
	readonly id: string;
	readonly name: string;
	readonly kind: 'ed25519' | 'fido2';
	/** SPKI, DER. */
	readonly publicKey: Uint8Array;
	/** Of a FIDO2 key: the relying party that it was registered for; else empty. */
	readonly rpId: string;
	/** Of a FIDO2 key that counts: must rise. */
	readonly signCount: number;
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly removedAtMs: number | null;
}

/** One use of the break-glass: a challenge, who signed it, and the access that followed. */
export interface BreakGlassGrantRow {
	readonly id: string;
	readonly challenge: Uint8Array;
	readonly reason: string;
	readonly peer: string;
	readonly requestedAtMs: number;
	readonly challengeExpiresAtMs: number;
	/** Ids of the keys that signed. */
	readonly signers: readonly string[];
	/** Of the credential; null until enough have signed. */
	readonly secretSha256: Uint8Array | null;
	readonly activatedAtMs: number | null;
	readonly expiresAtMs: number | null;
	readonly endedAtMs: number | null;
	readonly version: number;
}

/** Changes of grants raise the policy epoch. */
export interface BreakGlass {
	/** Throws ALREADY_EXISTS for a public key that is registered. */
	insertKey(row: BreakGlassKeyRow): Plan<void>;
	/** Not removed; by id. */
	listKeys(page: Page): Plan<readonly BreakGlassKeyRow[]>;
	removeKey(id: string, atMs: number): Plan<BreakGlassKeyRow | undefined>;
	/** False, and nothing changed, when it is not above the one that is kept: it never goes back. */
	raiseSignCount(id: string, signCount: number): Plan<boolean>;

	insertGrant(row: BreakGlassGrantRow): Plan<void>;
	getGrant(id: string): Plan<BreakGlassGrantRow | undefined>;
	getGrantBySecret(secretSha256: Uint8Array): Plan<BreakGlassGrantRow | undefined>;
	/** The changed row; undefined when it was activated before. */
	activate(
		id: string,
		to: Pick<BreakGlassGrantRow, 'signers' | 'secretSha256' | 'activatedAtMs' | 'expiresAtMs'>,
	): Plan<BreakGlassGrantRow | undefined>;
	/** The changed row; undefined when it had ended. */
	end(id: string, atMs: number): Plan<BreakGlassGrantRow | undefined>;
	/** Challenges of one address that nobody answered yet and that live. */
	countOpenChallenges(peer: string, nowMs: number): Plan<number>;
	/** Deletes unanswered challenges: those that are over, and of the rest all but the `keep` newest. */
	forgetChallenges(keep: number, nowMs: number): Plan<number>;
	/** By id. */
	listGrants(page: Page): Plan<readonly BreakGlassGrantRow[]>;
}
