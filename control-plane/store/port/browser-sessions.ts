import type { Plan } from './unit.ts';

/** A login that a browser was sent away for. */
export interface LoginAttemptRow {
	/** The `state` of the request. */
	readonly id: string;
	/** Of the cookie that binds it to the browser. */
	readonly secretSha256: Uint8Array;
	readonly issuer: string;
	/** PKCE verifier and nonce, sealed. */
	readonly sealed: Uint8Array;
	/** A path of ours. */
	readonly returnTo: string;
	readonly createdAtMs: number;
	readonly expiresAtMs: number;
	readonly usedAtMs: number | null;
}

/** A session of a browser, of a person who logged in at a provider. */
export interface BrowserSessionRow {
	readonly id: string;
	readonly secretSha256: Uint8Array;
	/** The secret before the last rotation: requests that were under way still carry it. */
	readonly previousSha256: Uint8Array | null;
	readonly principalId: string;
	readonly issuer: string;
	readonly subject: string;
	/** `sid` at the provider, or empty. */
	readonly providerSession: string;
	readonly acr: string;
	readonly authenticatedAtMs: number;
	/** The provider's refresh token, sealed: asking with it tells whether the person may still log in. */
	readonly sealedRefresh: Uint8Array | null;
	readonly createdAtMs: number;
	readonly rotatedAtMs: number;
	readonly checkedAtMs: number;
	readonly expiresAtMs: number;
	readonly endedAtMs: number | null;
	readonly endedReason: string;
}

export interface BrowserSessions {
	insertAttempt(row: LoginAttemptRow): Plan<void>;
	/** Whether there is one that wasn't used yet. */
	hasAttempt(id: string): Plan<boolean>;
	/** The attempt, marked as used; undefined when it is unknown or was used before. */
	useAttempt(id: string, atMs: number): Plan<LoginAttemptRow | undefined>;

	insert(row: BrowserSessionRow): Plan<void>;
	get(id: string): Plan<BrowserSessionRow | undefined>;
	/** By its secret or the one before; also ended ones. */
	getBySecret(secretSha256: Uint8Array): Plan<BrowserSessionRow | undefined>;
	/** The changed row; undefined when its secret is no longer `ifSecret`, or it has ended. */
	rotate(
		id: string,
		ifSecret: Uint8Array,
		to: { readonly secretSha256: Uint8Array; readonly atMs: number },
	): Plan<BrowserSessionRow | undefined>;
	/** Marks it as asked about, if it still was last asked about at `ifCheckedAtMs` and is open; false: another has it. */
	claimCheck(id: string, ifCheckedAtMs: number, atMs: number): Plan<boolean>;
	checked(id: string, sealedRefresh: Uint8Array, atMs: number): Plan<void>;
	/** The changed row; undefined when it had ended. Raises the policy epoch. */
	end(id: string, reason: string, atMs: number): Plan<BrowserSessionRow | undefined>;
	/** Open ones of a session at the provider, or of the subject when `providerSession` is empty. */
	openOf(issuer: string, subject: string, providerSession: string): Plan<readonly BrowserSessionRow[]>;
	/** Open ones with a refresh token that were last asked about before `beforeMs`, longest ago first. */
	listUnchecked(beforeMs: number, limit: number): Plan<readonly BrowserSessionRow[]>;
	/** Attempts and sessions that ended or expired before `beforeMs`. */
	sweep(beforeMs: number): Plan<number>;
}
