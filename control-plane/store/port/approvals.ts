import type { Page } from './page.ts';
import type { Visibility } from './scopes.ts';
import type { Plan } from './unit.ts';

export type ApprovalState = 'pending' | 'approved' | 'rejected' | 'consumed';

/** A second person's word for one request of one requester. `expired` is derived. */
export interface ApprovalRow {
	readonly id: string;
	readonly requesterId: string;
	/** Name of the scope at which the thing that is asked for stands: who decides there sees it. */
	readonly scope: string;
	/** `gpuaas.tokens.v1.TokenService/CreateToken`. */
	readonly method: string;
	/** SHA-256 over method, canonical request, requester and end. */
	readonly digestSha256: Uint8Array;
	/** What the approver reads; secrets are named, not shown. */
	readonly summary: string;
	readonly reason: string;
	readonly state: ApprovalState;
	readonly createdAtMs: number;
	readonly expiresAtMs: number;
	readonly decidedBy: string | null;
	readonly decidedAtMs: number | null;
	readonly decisionReason: string;
	readonly consumedAtMs: number | null;
	readonly version: number;
}

export interface Approvals {
	insert(row: ApprovalRow): Plan<void>;
	get(id: string): Plan<ApprovalRow | undefined>;
	/** The changed row; undefined when it was decided before. */
	decide(
		id: string,
		to: Pick<ApprovalRow, 'state' | 'decidedBy' | 'decidedAtMs' | 'decisionReason'>,
	): Plan<ApprovalRow | undefined>;
	/** The changed row; undefined when it is not approved, or was consumed before. */
	consume(id: string, atMs: number): Plan<ApprovalRow | undefined>;
	/** Pending and not expired, of one requester or (null) of all. */
	countPending(requesterId: string, nowMs: number): Plan<number>;
	/** Of this requester, and those at scopes that may be seen; by id. */
	list(page: Page & { readonly requesterId: string; readonly visibility: Visibility }): Plan<readonly ApprovalRow[]>;
}
