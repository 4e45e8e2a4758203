import type { NodeRow } from '../../store/port/nodes.ts';
import type { RecoveryClaim, TokenClaim } from './challenges.ts';
import type { Issue } from './issue.ts';

/** What a Hello asks for, after its request was checked. */
export interface Asked {
	readonly csrDer: Uint8Array;
	/** Hex. */
	readonly spkiSha256: string;
	/** DMI product serial, as the host says. */
	readonly serial: string;
	readonly transcript: (credential: string) => Uint8Array;
}

/** Who asks, and the key that proved it. */
export interface Proved {
	readonly claim: TokenClaim | RecoveryClaim;
	readonly proofKey: Uint8Array;
}

/** What an enrollment or a recovery ended with. */
export interface Completed extends Pick<Issue, 'chain' | 'joinState'> {
	readonly node: Pick<NodeRow, 'id' | 'name' | 'generation'>;
}
