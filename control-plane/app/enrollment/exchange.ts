import type { NodeRow } from '../../store/port/nodes.ts';
import type { RecoveryClaim, TokenClaim } from './challenges.ts';
import type { Issue } from './issue.ts';

/**
 * Hello -> Challenge. The caller proves on this TLS channel (RFC 9266 exporter) that it holds the join token's secret,
 * or the key of its expired certificate. Nothing is said about a token or node to anybody who can't prove it.
 */
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
