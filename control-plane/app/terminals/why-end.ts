import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { Plan } from '../../store/port/unit.ts';
import { BREAK_GLASS_PRINCIPAL_ID } from '../break-glass/rules.ts';
import { decide } from '../iam/decide.ts';
import { permissionBit } from '../iam/permissions.ts';
import type { PolicyView } from '../iam/policy-view.ts';
import { loadActor, NO_LIMITS, unusablePrincipal } from '../iam/principal.ts';
import { inProject } from '../iam/target.ts';
import { openingTimeoutMs, unattendedGraceMs } from './limits.ts';
import type { Relay } from './relay.ts';

/** Why a terminal that is open may not go on, as of one snapshot. */
export interface WhyEnd {
	readonly reason: string;
	readonly message: string;
}

/** One look at many terminals: whoever has ten is looked up once. */
export class EndJudge {
	readonly #tx: Tx;
	readonly #view: PolicyView;
	readonly #nowMs: number;
	readonly #nodes = new Map<string, NodeRow | undefined>();
	readonly #access = new Map<string, WhyEnd | undefined>();

	constructor(tx: Tx, view: PolicyView, nowMs: number) {
		this.#tx = tx;
		this.#view = view;
		this.#nowMs = nowMs;
	}

	/** `relay`: of this replica, where it has one. */
	*judge(row: TerminalRow, relay: Pick<Relay, 'idleMs' | 'isLeftover'> | undefined): Plan<WhyEnd | undefined> {
		return this.#time(row, relay) ?? (yield* this.#node(row)) ?? (yield* this.#principal(row));
	}

	#time(row: TerminalRow, relay: Pick<Relay, 'idleMs' | 'isLeftover'> | undefined): WhyEnd | undefined {
		const nowMs = this.#nowMs;
		const idleMs = relay?.idleMs;
		// Nothing runs any more that somebody might come back to later: only a reader whose line broke.
		const graceMs = relay?.isLeftover === true ? Math.min(row.graceMs, unattendedGraceMs) : row.graceMs;
		if (row.state === 'opening' && nowMs - row.createdAtMs > openingTimeoutMs)
			return {
				reason: 'TERMINAL_UNANSWERED',
				message: 'the agent of the node did not answer; it may be too old for terminals, or its link is broken',
			};
		if (nowMs > row.expiresAtMs)
			return { reason: 'TERMINAL_TOO_LONG', message: 'it was open as long as this installation lets one be' };
		if (row.detachedAtMs !== null && nowMs - row.detachedAtMs > graceMs)
			return {
				reason: 'TERMINAL_ABANDONED',
				message: `nobody was attached for ${minutes(graceMs)}, which is as long as it may wait`,
			};
		if (row.idleMs > 0 && idleMs !== undefined && idleMs > row.idleMs)
			return { reason: 'TERMINAL_IDLE', message: `nobody typed for ${minutes(row.idleMs)}` };
		return undefined;
	}

	*#node(row: TerminalRow): Plan<WhyEnd | undefined> {
		if (!this.#nodes.has(row.nodeId)) this.#nodes.set(row.nodeId, yield* this.#tx.nodes.get(row.nodeId));
		const node = this.#nodes.get(row.nodeId);
		if (node === undefined || node.state === 'retired')
			return { reason: 'NODE_REMOVED', message: 'its node was removed' };
		if (node.locked) return { reason: 'NODE_LOCKED', message: 'its node was locked' };
		if (node.generation !== row.generation) return { reason: 'STALE_GENERATION', message: 'its node was reimaged' };
		if (row.assignmentId === null)
			return node.custody === 'platform'
				? undefined
				: { reason: 'NODE_IN_TENANT_CUSTODY', message: 'its node was handed to a tenant' };
		const open = yield* this.#tx.assignments.openOfNode(row.nodeId);
		if (open?.id === row.assignmentId) return undefined;
		return { reason: 'ASSIGNMENT_ENDED', message: 'the assignment that it was opened under ended' };
	}

	*#principal(row: TerminalRow): Plan<WhyEnd | undefined> {
		const key = [row.createdBy, row.credentialId, row.permission, row.organization, row.project].join('\n');
		if (!this.#access.has(key)) this.#access.set(key, yield* this.#lookUp(row));
		return this.#access.get(key);
	}

	*#lookUp(row: TerminalRow): Plan<WhyEnd | undefined> {
		const principal = yield* this.#tx.identities.getPrincipal(row.createdBy);
		const unusable = principal && (yield* unusablePrincipal(this.#tx, this.#view, principal));
		if (unusable === 'suspended')
			return { reason: 'PRINCIPAL_DISABLED', message: 'the project or organization of its opener was suspended' };
		if (principal === undefined || unusable !== undefined)
			return { reason: 'PRINCIPAL_DISABLED', message: 'the account that opened it was disabled' };
		if (row.createdBy === BREAK_GLASS_PRINCIPAL_ID) {
			const grant = yield* this.#tx.breakGlass.getGrant(row.credentialId);
			const isOpen = grant?.endedAtMs === null && grant.expiresAtMs !== null && grant.expiresAtMs > this.#nowMs;
			if (!isOpen) return { reason: 'CREDENTIAL_REVOKED', message: 'the break-glass that opened it is over' };
		}
		// Its expiry alone ends nothing: people's tokens live for minutes, and the terminal has a length of its own.
		const credential = yield* this.#tx.apiKeys.getCredential(row.credentialId);
		const key =
			credential === undefined || credential.keyId === null
				? undefined
				: yield* this.#tx.apiKeys.find(credential.keyId);
		if ((credential?.revokedAtMs ?? null) !== null || (key?.revokedAtMs ?? null) !== null)
			return { reason: 'CREDENTIAL_REVOKED', message: 'the credential that opened it was revoked' };
		const limits = key === undefined ? NO_LIMITS : { permissions: key.permissions, scope: key.scope, cidrs: key.cidrs };
		const verified = { kind: 'api_key' as const, id: row.credentialId, expiresAtMs: null, limits };
		const actor = yield* loadActor(this.#tx, this.#view, principal, verified, this.#nowMs);
		const decision = decide(actor, {
			authenticated: true,
			permission: permissionBit(row.permission),
			reads: false,
			stepUp: false,
			target: yield* inProject(this.#tx, this.#view, 'terminals.get', row),
			nowMs: this.#nowMs,
		});
		if (decision.allowed) return undefined;
		return {
			reason: 'ACCESS_REMOVED',
			message: `whoever opened it no longer holds ${row.permission} there`,
		};
	}
}

function minutes(ms: number): string {
	return ms >= 120_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1000)} s`;
}
