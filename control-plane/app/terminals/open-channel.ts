import { create, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { CHANNEL_GRANT_TYPE } from '../../../pki/verify/task.ts';
import { ChannelGrantSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { ChannelSpec } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import type { ProjectRef } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TerminalKind, TerminalRow } from '../../store/port/terminals.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import type { AuditEvent } from '../audit/event.ts';
import type { Gate } from '../gates.ts';
import { checkedPolicy } from '../iam/method-policy.ts';
import { projectName } from '../iam/resource-name.ts';
import type { TargetOf } from '../iam/target.ts';
import { ownerOf } from '../nodes/admission.ts';
import { assertConnected, CONNECTED, IN_CUSTODY, TAKES_WORK } from '../nodes/gates.ts';
import { reserveQuota, type Wish } from '../quotas/reserve.ts';
import type { Call } from '../use-case.ts';
import { grantTtlMs, reservedMs } from './limits.ts';
import { relayHooks } from './relay-hooks.ts';

/**
 * Opens a channel on a node, of whatever kind: the plan behind OpenTerminal, and behind what copies and forwards. The
 * grant is signed before the unit, the row and its audit record are one unit, and the agent is asked after the commit.
 */
export interface ChannelRequest {
	readonly kind: TerminalKind;
	readonly tty: boolean;
	readonly spec: ChannelSpec;
	/** For people: what was asked for. */
	readonly command: string;
	readonly purpose: string;
	/** How long it may have nobody attached; absent: as terminals. */
	readonly graceMs?: number;
	/** Of the method: what the opener must go on holding. */
	readonly permission: string;
}

export interface PreparedChannel extends ChannelRequest {
	readonly id: string;
	readonly generation: number;
	readonly assignmentId: string | null;
	/** Binary DSSE. */
	readonly grant: Uint8Array;
}

export interface OpenedChannel {
	readonly row: TerminalRow;
	readonly audit: AuditEvent;
	readonly events: readonly { readonly topic: string; readonly key: string }[];
	readonly effects: () => void;
}

type OpenCall = Call<MessageShape<typeof ChannelGrantSchema> | object>;
type NodeTarget = TargetOf['node'];

const COMMAND_CHARS_MAX = 1024;

/** Throws NODE_UNREACHABLE, NODE_ON_OTHER_REPLICA, PURPOSE_REQUIRED. */
export async function prepareChannel(
	{ deps, ctx, nowMs }: OpenCall,
	target: NodeTarget,
	request: ChannelRequest,
): Promise<PreparedChannel> {
	const { node } = target;
	if (deps.limits.terminalPurposeRequired && request.purpose.trim() === '') throw purposeRequired();
	await deps.store.read((tx) => assertConnected(tx, deps, node.id, nowMs));
	const id = uuidv7(nowMs, deps.rng);
	const owner = ownerOf(target);
	const grant = create(ChannelGrantSchema, {
		channelId: id,
		nodeId: node.id,
		generation: node.generation,
		notBefore: timestampFromMs(nowMs),
		notAfter: timestampFromMs(nowMs + grantTtlMs),
		spec: request.spec,
		createdBy: ctx.actor.id,
		createdByName: ctx.actor.displayName.slice(0, 256),
		correlationId: ctx.correlationId,
		...(request.kind === 'forward' && { forwardNever: [...deps.limits.forwardNever] }),
		...(owner !== undefined && {
			assignment: {
				assignmentId: owner.id,
				organization: owner.organization,
				project: owner.project,
				generation: owner.generation,
			},
		}),
	});
	const { envelope } = await deps.authority.signTaskDocument(CHANNEL_GRANT_TYPE, toBinary(ChannelGrantSchema, grant));
	return { ...request, id, generation: node.generation, assignmentId: owner?.id ?? null, grant: envelope };
}

/** All of the node's, whoever asks, and then what one person has. Throws TOO_MANY_TERMINALS. */
const ROOM_FOR_TERMINAL: Gate<'node'> = {
	gate: 'room',
	*check(tx, { target, actor, deps: { limits } }) {
		const { terminalsOpenPerNodeMax, terminalsOpenPerPersonMax } = limits;
		const open = yield* asPlatform(tx.terminals.countOpen(target.node.id));
		if (open >= terminalsOpenPerNodeMax) throw tooMany(terminalsOpenPerNodeMax);
		const owner = ownerOf(target);
		if (owner === undefined || !target.isHolder) return 'the node has room for one more';
		// Also where the organization has no quota, or a large one: nobody takes all of it from the others.
		const own = yield* asPlatform(tx.terminals.countOpenOf(actor.id, owner.organization));
		if (own >= terminalsOpenPerPersonMax) throw tooManyOfPerson(terminalsOpenPerPersonMax);
		return `the node has room for one more, and so has the person: ${own} of ${terminalsOpenPerPersonMax} open`;
	},
};

/** What whoever opens a channel meets, of whatever kind it is. */
export const CHANNEL_GATES: readonly Gate<'node'>[] = [CONNECTED, TAKES_WORK, IN_CUSTODY, ROOM_FOR_TERMINAL];

/** In the unit, past the gates. Throws NODE_BUSY, QUOTA_EXCEEDED. */
export function* applyChannel(
	tx: Tx,
	{ deps, ctx, nowMs }: OpenCall,
	target: NodeTarget,
	prepared: PreparedChannel,
): Plan<OpenedChannel> {
	const { node } = target;
	const owner = ownerOf(target);
	if (prepared.generation !== node.generation || prepared.assignmentId !== (owner?.id ?? null)) throw movedOn();
	const { limits } = deps;
	const row: TerminalRow = {
		id: prepared.id,
		nodeId: node.id,
		kind: prepared.kind,
		tty: prepared.tty,
		state: 'opening',
		permission: prepared.permission,
		command: prepared.command.slice(0, COMMAND_CHARS_MAX),
		createdBy: ctx.actor.id,
		createdByName: ctx.actor.displayName,
		credentialId: ctx.actor.credentialId,
		account: '',
		purpose: prepared.purpose,
		createdAtMs: nowMs,
		openedAtMs: null,
		closedAtMs: null,
		detachedAtMs: nowMs,
		expiresAtMs: nowMs + limits.terminalLengthMaxMs,
		graceMs: prepared.graceMs ?? limits.terminalGraceMs,
		idleMs: prepared.tty ? limits.terminalIdleMs : 0,
		exitCode: null,
		signal: null,
		reason: '',
		message: '',
		custody: node.custody,
		assignmentId: owner?.id ?? null,
		organization: owner?.organization ?? null,
		project: owner?.project ?? null,
		generation: node.generation,
		correlationId: ctx.correlationId,
	};
	// What the platform's own people do on a tenant's node is not the tenant's use.
	if (owner !== undefined && target.isHolder) yield* reserveQuota(tx, wishOf(row, owner, nowMs), nowMs + reservedMs);
	yield* tx.terminals.insert(row);
	return {
		row,
		audit: {
			action: prepared.permission,
			target: `terminals/${row.id}`,
			result: 'ok',
			reason: '',
			custody: node.custody,
			detail: { node: node.id, kind: row.kind, tty: row.tty },
			personal: { command: row.command, purpose: row.purpose },
			...(owner === undefined ? {} : { organization: owner.organization }),
		},
		events: [{ topic: 'terminals.changed', key: row.id }],
		effects() {
			deps.terminals.open(row, relayHooks(deps, row));
			deps.sessions.openChannel(node.id, {
				channelId: row.id,
				correlationId: ctx.correlationId,
				grant: prepared.grant,
			});
		},
	};
}

/** What an open terminal of a project takes. */
function wishOf({ id }: Pick<TerminalRow, 'id'>, owner: ProjectRef, nowMs: number): Wish {
	const { organization } = owner;
	return { kind: 'terminals', holder: id, scope: projectName(owner), organization, amount: 1, nowMs };
}

/** The permission of a method, for `ChannelRequest`. */
export function permissionOf(method: Parameters<typeof checkedPolicy>[0]): string {
	return checkedPolicy(method).permission;
}

function purposeRequired(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'PURPOSE_REQUIRED',
		message:
			'this installation wants to know what a terminal is for; say it with --purpose, it is kept in the audit log',
	});
}

function movedOn(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'NODE_BUSY',
		message: 'the node was reimaged or assigned meanwhile; nothing was opened. Try again',
		metadata: { 'retry-after': '0' },
	});
}

function tooManyOfPerson(max: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_TERMINALS',
		message: `you have ${max} terminals, commands, copies and forwards open on the nodes of your organization, as many as one person may; end one: gpuaas terminal list shows them, gpuaas terminal kill ends one, and whoever runs this control plane sets the limit ([terminals] open_per_person_max)`,
		metadata: { terminals_max: String(max), limit_of: 'person' },
	});
}

function tooMany(max: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TOO_MANY_TERMINALS',
		message: `the node has ${max} open terminals, which is its limit; end one with gpuaas terminal kill, or choose another node`,
		metadata: { terminals_max: String(max) },
	});
}
