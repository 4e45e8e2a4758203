import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import {
	AttachMode,
	ShareTerminalResponseSchema,
	TerminalService,
} from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { heldAt } from '../iam/decide.ts';
import { holds } from '../iam/permissions.ts';
import { inProject } from '../iam/target.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { mutation, type UseCaseDeps } from '../use-case.ts';
import { terminalMessage } from './view.ts';

/** Throws TERMINAL_NOT_SHARED. */
const OWN: Gate<'terminal'> = {
	gate: 'opener',
	check(_tx, { target: { terminal }, actor }) {
		if (terminal.createdBy !== actor.id) throw notOwner();
		return 'they opened it';
	},
};

/** Throws TERMINAL_ENDED. */
const OPEN: Gate<'terminal'> = {
	gate: 'state',
	check(_tx, { target: { terminal } }) {
		if (terminal.state === 'closed') throw ended();
		return `the terminal is ${terminal.state}`;
	},
};

/**
 * The owner lets one more principal in, or no longer. It adds to what that principal may do anyway: without the
 * permission to attach or observe there, a share alone opens nothing. Withdrawing ends what it allowed within a second.
 */
export const shareTerminal = mutation('terminal', TerminalService.method.shareTerminal, {
	prepare: () => undefined,
	gates: [OWN, OPEN],
	*apply(tx, { deps, ctx, request, nowMs }, { terminal }) {
		const principal = yield* guest(tx, deps, terminal, request.principalId, nowMs);
		// What was shared can be withdrawn, whatever became of them.
		const isKnown = principal !== undefined && (yield* tx.terminals.getShare(terminal.id, principal.id)) !== undefined;
		if (principal === undefined || !(isKnown || (yield* mayLook(tx, deps, terminal, principal, nowMs))))
			throw noPrincipal();
		const mode = request.mode === AttachMode.CONTROL ? 'control' : 'observe';
		if (request.mode === AttachMode.UNSPECIFIED) yield* tx.terminals.deleteShare(terminal.id, principal.id);
		else
			yield* tx.terminals.putShare({
				terminalId: terminal.id,
				principalId: principal.id,
				mode,
				createdBy: ctx.actor.id,
				createdAtMs: nowMs,
			});
		const nodeName = yield* nameOfNode(tx, terminal.nodeId);
		const viewers = deps.terminals.get(terminal.id)?.viewers.size ?? 0;
		return {
			response: create(ShareTerminalResponseSchema, { terminal: terminalMessage(terminal, nodeName, viewers) }),
			audit: {
				action: 'terminals.share',
				target: `terminals/${terminal.id}`,
				result: 'ok',
				reason: '',
				detail: { principal: principal.id, mode: request.mode === AttachMode.UNSPECIFIED ? 'none' : mode },
				...(terminal.organization === null ? {} : { organization: terminal.organization }),
			},
			events: [{ topic: 'terminals.shared', key: terminal.id }],
		};
	},
});

/** Somebody of this organization; or of the platform's people, whom only the platform's eyes find. */
function* guest(
	tx: Tx,
	{ policies }: Pick<UseCaseDeps, 'policies'>,
	terminal: TerminalRow,
	id: string,
	nowMs: number,
): Plan<PrincipalRow | undefined> {
	const own = yield* tx.identities.getPrincipal(id);
	if (own !== undefined) return own;
	const { isOfPlatform } = yield* (yield* policies.inUnit(tx)).access(tx, id, nowMs);
	const isShared = (yield* tx.terminals.getShare(terminal.id, id)) !== undefined;
	return isShared || isOfPlatform ? yield* asPlatform(tx.identities.getPrincipal(id)) : undefined;
}

/** Whether they belong where the terminal is: of all others nobody here learns even that they exist. */
function* mayLook(
	tx: Tx,
	{ policies }: Pick<UseCaseDeps, 'policies'>,
	terminal: TerminalRow,
	{ id }: PrincipalRow,
	nowMs: number,
): Plan<boolean> {
	const view = yield* policies.inUnit(tx);
	const at = yield* inProject(tx, view, 'terminals.get', terminal);
	if (at.kind !== 'object') return false;
	const access = yield* view.access(tx, id, nowMs);
	return holds(access.platform, at.get) || heldAt(access, at.get, at.place);
}

function notOwner(): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'TERMINAL_NOT_SHARED',
		message: 'only whoever opened a terminal can share it; ask them',
	});
}

function ended(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'TERMINAL_ENDED',
		message: 'the terminal has ended, so there is nothing to share; look at it with gpuaas terminal list --all',
	});
}

function noPrincipal(): GpuaasError {
	return new GpuaasError({
		code: 'NOT_FOUND',
		reason: 'NOT_FOUND',
		message: 'there is no principal of that id who may see this terminal; they find theirs with gpuaas whoami',
	});
}
