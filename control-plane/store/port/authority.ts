import type { Plan } from './unit.ts';

/** The certificate authority's public state, one document with a version; private keys are elsewhere (Signer). */
export interface AuthorityRow {
	readonly version: number;
	/** JSON; owned by app/certificates. */
	readonly document: string;
}

export interface Authority {
	get(): Plan<AuthorityRow | undefined>;
	/** Writes version + 1; false when the stored version is not `ifVersion` (0: none yet). */
	put(document: string, ifVersion: number): Plan<boolean>;
}
