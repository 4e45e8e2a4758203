import type { Custody } from './nodes.ts';
import type { Page } from './page.ts';
import type { Visibility } from './scopes.ts';
import type { Plan } from './unit.ts';

export type TerminalKind = 'shell' | 'exec' | 'copy' | 'forward';
export type TerminalState = 'opening' | 'open' | 'closed';
export type ShareMode = 'control' | 'observe';

export interface TerminalRow {
	readonly id: string;
	readonly nodeId: string;
	readonly kind: TerminalKind;
	/** Has a pseudo-terminal. */
	readonly tty: boolean;
	readonly state: TerminalState;
	/** What its opener had to hold, and must go on holding. */
	readonly permission: string;
	/** What was asked for, for people; bounded. */
	readonly command: string;
	readonly createdBy: string;
	readonly createdByName: string;
	/** Of the opener: when it is revoked, the terminal ends. */
	readonly credentialId: string;
	/** The local account; empty until the node has answered. */
	readonly account: string;
	readonly purpose: string;
	readonly createdAtMs: number;
	readonly openedAtMs: number | null;
	readonly closedAtMs: number | null;
	/** Since when nobody is attached. */
	readonly detachedAtMs: number | null;
	readonly expiresAtMs: number;
	/** How long it may have nobody attached. */
	readonly graceMs: number;
	/** How long it may be without input; 0: for ever. */
	readonly idleMs: number;
	readonly exitCode: number | null;
	readonly signal: number | null;
	readonly reason: string;
	readonly message: string;
	/** Of the node when it was opened. */
	readonly custody: Custody;
	readonly assignmentId: string | null;
	readonly organization: string | null;
	readonly project: string | null;
	readonly generation: number;
	readonly correlationId: string;
}

export type TerminalPatch = Partial<
	Pick<
		TerminalRow,
		'state' | 'account' | 'openedAtMs' | 'closedAtMs' | 'detachedAtMs' | 'exitCode' | 'signal' | 'reason' | 'message'
	>
>;

export interface TerminalShareRow {
	readonly terminalId: string;
	readonly principalId: string;
	readonly mode: ShareMode;
	readonly createdBy: string;
	readonly createdAtMs: number;
}

export interface Terminals {
	insert(row: TerminalRow): Plan<void>;
	get(id: string): Plan<TerminalRow | undefined>;
	/** Only while it isn't closed; the changed row. */
	update(id: string, patch: TerminalPatch): Plan<TerminalRow | undefined>;
	/** Newest first. */
	list(
		page: Page & {
			readonly nodeId: string | null;
			readonly includeClosed: boolean;
			/** By the assignment that it was opened under, never by the node's holder. */
			readonly visibility: Visibility;
		},
	): Plan<readonly TerminalRow[]>;
	/** Not closed, by id; of one node, or of all when null. */
	listOpen(nodeId: string | null, afterId: string, limit: number): Plan<readonly TerminalRow[]>;
	countOpen(nodeId: string): Plan<number>;
	/** Of this principal on all nodes of an organization. In a unit no two count for the same one at once. */
	countOpenOf(principalId: string, organization: string): Plan<number>;
	/** Replaces the share of the same principal. */
	putShare(row: TerminalShareRow): Plan<void>;
	deleteShare(terminalId: string, principalId: string): Plan<void>;
	getShare(terminalId: string, principalId: string): Plan<TerminalShareRow | undefined>;
}
