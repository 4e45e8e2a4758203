import { create } from '@bufbuild/protobuf';
import {
	ListTerminalsRequestSchema,
	ListTerminalsResponseSchema,
	TerminalService,
} from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { findNode } from '../iam/target.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { nodeName } from '../nodes/name.ts';
import { query } from '../use-case.ts';
import { terminalMessage } from './view.ts';

/** Newest first. Filtered by what the caller may get: by the assignment of each terminal, never by the node's holder. */
export const listTerminals = query('any', TerminalService.method.listTerminals, {
	*read(tx, call, { visibility }) {
		const { request } = call;
		const page = pageOf(call, ListTerminalsRequestSchema);
		const node = request.node === '' ? undefined : yield* findNode(tx, request.node);
		const isKnown = request.node === '' || node !== undefined;
		const filter = { nodeId: node?.id ?? null, includeClosed: request.includeClosed, visibility };
		const terminals: readonly TerminalRow[] = isKnown
			? yield* tx.terminals.list({ ...filter, afterId: page.afterId, limit: page.limit })
			: [];
		const names = new Map<string, string>();
		for (const { nodeId } of terminals) if (!names.has(nodeId)) names.set(nodeId, yield* nodeName(tx, nodeId));
		return { terminals, names, page };
	},
	answer: ({ deps }, { terminals, names, page }) =>
		create(ListTerminalsResponseSchema, {
			terminals: terminals.map((row) =>
				terminalMessage(row, names.get(row.nodeId) ?? '', deps.terminals.get(row.id)?.viewers.size ?? 0),
			),
			nextPageToken: terminals.length < page.limit ? '' : nextPageToken(page, terminals.at(-1)?.id, page.limit),
		}),
});
