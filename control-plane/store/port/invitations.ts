import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** An invitation into an organization: single use, hashed, for one verified e-mail address. */
export interface InvitationRow {
	readonly id: string;
	/** Id of the organization. */
	readonly organization: string;
	/** Lower case. */
	readonly email: string;
	readonly tokenSha256: Uint8Array;
	/** The binding that accepting makes. */
	readonly role: string;
	readonly scope: string;
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly expiresAtMs: number;
	readonly acceptedAtMs: number | null;
	readonly acceptedBy: string | null;
	readonly revokedAtMs: number | null;
	readonly version: number;
}

export interface Invitations {
	insert(row: InvitationRow): Plan<void>;
	get(id: string): Plan<InvitationRow | undefined>;
	getByToken(tokenSha256: Uint8Array): Plan<InvitationRow | undefined>;
	/** The changed row; undefined when it was accepted or revoked before. */
	accept(id: string, acceptedBy: string, atMs: number): Plan<InvitationRow | undefined>;
	revoke(id: string, atMs: number): Plan<InvitationRow | undefined>;
	/** Open ones that this principal made, in one organization or (null) anywhere; how many. */
	revokeAllBy(createdBy: string, organization: string | null, atMs: number): Plan<number>;
	/** That could be accepted at `nowMs`. */
	countOpen(organization: string, nowMs: number): Plan<number>;
	/** By id. */
	list(page: Page & { readonly organization: string }): Plan<readonly InvitationRow[]>;
}
