import { create } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { AssignmentRefSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	type Terminal,
	TerminalKind,
	TerminalSchema,
	TerminalState,
} from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { CUSTODY } from '../wire/node.ts';

const KIND = {
	shell: TerminalKind.SHELL,
	exec: TerminalKind.EXEC,
	copy: TerminalKind.COPY,
	forward: TerminalKind.FORWARD,
} as const;

const STATE = {
	opening: TerminalState.OPENING,
	open: TerminalState.OPEN,
	closed: TerminalState.CLOSED,
} as const;

export function terminalMessage(row: TerminalRow, nodeName: string, viewers = 0): Terminal {
	return create(TerminalSchema, {
		id: row.id,
		nodeId: row.nodeId,
		nodeName,
		kind: KIND[row.kind],
		state: STATE[row.state],
		tty: row.tty,
		createdBy: row.createdBy,
		user: row.account,
		command: row.command,
		createdAt: timestampFromMs(row.createdAtMs),
		expiresAt: timestampFromMs(row.expiresAtMs),
		reason: row.reason,
		message: row.message,
		custody: CUSTODY[row.custody],
		viewers,
		reattachGrace: durationFromMs(row.graceMs),
		...(row.idleMs === 0 ? {} : { idleTimeout: durationFromMs(row.idleMs) }),
		correlationId: row.correlationId,
		purpose: row.purpose,
		...(row.openedAtMs === null ? {} : { openedAt: timestampFromMs(row.openedAtMs) }),
		...(row.closedAtMs === null ? {} : { closedAt: timestampFromMs(row.closedAtMs) }),
		...(row.detachedAtMs === null ? {} : { detachedAt: timestampFromMs(row.detachedAtMs) }),
		...(row.exitCode === null ? {} : { exitCode: row.exitCode }),
		...(row.signal === null ? {} : { signal: row.signal }),
		...(row.assignmentId === null
			? {}
			: {
					assignment: create(AssignmentRefSchema, {
						assignmentId: row.assignmentId,
						organization: row.organization ?? '',
						project: row.project ?? '',
						generation: row.generation,
					}),
				}),
	});
}
