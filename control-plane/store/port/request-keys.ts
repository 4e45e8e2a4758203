import type { Plan } from './unit.ts';

/** AIP-155: the first answer to (principal, method, request id), kept 24 h. */
export interface RequestKeyRow {
	readonly principalId: string;
	readonly method: string;
	readonly requestId: string;
	readonly bodySha256: Uint8Array;
	/** Binary response message. */
	readonly response: Uint8Array;
	/** Of the change's audit record; null in rows of older versions. */
	readonly leafId: string | null;
	readonly expiresAtMs: number;
}

export interface RequestKeys {
	get(principalId: string, method: string, requestId: string): Plan<RequestKeyRow | undefined>;
	/** Throws ALREADY_EXISTS when two at once used one id: the caller reads the first answer. */
	insert(row: RequestKeyRow): Plan<void>;
	prune(nowMs: number, limit: number): Plan<number>;
}
