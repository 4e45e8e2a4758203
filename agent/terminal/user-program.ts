import { CopyAccess, type CopySpec, type ForwardSpec } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { encodeFileTask, type FileTask } from '../files/file-task.ts';
import { isLoopback, isRange, normalized } from '../forward/address.ts';
import { encodeForwardTask } from '../forward/forward-task.ts';
import { ForwardJudge } from '../forward/rules.ts';
import type { Policy } from '../tasks/policy.ts';
import type { HelperPart } from './program-files.ts';

/**
 * Copies and forwards as programs that the account runs itself: our helpers, each with one argument that says what it may
 * do. Whether the kernel lets the account do it is found out there; whether this host offers it at all, here.
 */
export type HelperVerdict =
	| { readonly kind: 'ok'; readonly part: HelperPart; readonly argument: string; readonly command: string }
	| { readonly kind: 'refused'; readonly reason: string; readonly message: string };

export function copyProgram({ files }: Policy, { access, path, recursive, force }: CopySpec): HelperVerdict {
	const isRead = access === CopyAccess.READ;
	if (!isRead && access !== CopyAccess.WRITE) return refuse('POLICY_FILES', 'this agent knows no such access to files');
	if (isRead && !files.read) return refuse('POLICY_FILES', 'no files are read from this node (files.read)');
	if (!isRead && !files.write) return refuse('POLICY_FILES', 'no files are written to this node (files.write)');
	const task: FileTask = isRead
		? { access: 'read', path, recursive }
		: { access: 'write', path, force, freeFloorBytes: files.freeFloorBytes };
	const command = `${isRead ? 'read' : 'write'} ${path}`;
	return { kind: 'ok', part: 'files', argument: encodeFileTask(task), command };
}

/** What no forward reaches, whatever the policy lists. */
export interface Closed {
	/** host:port of the control plane's. */
	readonly gateways: readonly string[];
	/** Addresses and ranges of this host's management controller. */
	readonly management: readonly string[];
	/** Addresses and ranges that the control plane names. */
	readonly never: readonly string[];
}

export function forwardProgram(
	{ forward }: Policy,
	{ host, port }: ForwardSpec,
	{ gateways, management, never }: Closed,
): HelperVerdict {
	const misfit = ForwardJudge.misfit({ host, port });
	if (misfit !== undefined) return refuse('FORWARD_ADDRESS_DENIED', misfit);
	if (!forward.own && forward.allow.length === 0)
		return refuse('POLICY_FORWARD', 'this node forwards no ports (forward.own, forward.allow)');
	// What can't be read would close nothing.
	if (!never.every(isRange)) return refuse('ENVELOPE_MALFORMED', 'what the grant keeps closed is no list of ranges');
	const closed = [...forward.never, ...never, ...management.filter(isRange), ...gatewayHosts(gateways)];
	const rules = { own: forward.own, allow: forward.allow, never: closed };
	const argument = encodeForwardTask({ target: { host, port }, rules });
	return { kind: 'ok', part: 'forward', argument, command: `forward ${host || 'localhost'}:${port}` };
}

/** On one host with its control plane loopback is everybody's; there the rule of own sockets protects the gateway. */
function gatewayHosts(gateways: readonly string[]): readonly string[] {
	const hosts = gateways.map((gateway) => gateway.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
	return hosts.filter((host) => host !== 'localhost' && !isLoopback(normalized(host) ?? '192.0.2.1'));
}

function refuse(reason: string, message: string): HelperVerdict {
	return { kind: 'refused', reason, message };
}
