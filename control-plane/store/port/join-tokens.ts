import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

export type JoinTokenState = 'unused' | 'used' | 'revoked' | 'burned';

/** `expired` is derived. The secret is never here: only the Ed25519 public key that it seeds. */
export interface JoinTokenRow {
	readonly id: string;
	readonly state: JoinTokenState;
	readonly publicKey: Uint8Array;
	readonly nodeName: string;
	readonly labels: Readonly<Record<string, string>>;
	readonly expectedSerial: string;
	readonly createdAtMs: number;
	readonly expiresAtMs: number;
	readonly createdBy: string;
	readonly nodeId: string | null;
	/** SHA-256 of the SPKI that used it: the same key may ask again within the TTL (lost response). */
	readonly usedBySpkiSha256: string | null;
}

export interface JoinTokens {
	insert(row: JoinTokenRow): Plan<void>;
	get(id: string): Plan<JoinTokenRow | undefined>;
	/** The changed row; undefined when its state is not `ifState`. */
	update(
		id: string,
		patch: Partial<Pick<JoinTokenRow, 'state' | 'nodeId' | 'usedBySpkiSha256'>>,
		ifState: JoinTokenState,
	): Plan<JoinTokenRow | undefined>;
	list(page: Page): Plan<readonly JoinTokenRow[]>;
}
