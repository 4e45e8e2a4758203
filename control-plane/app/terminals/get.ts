import { create } from '@bufbuild/protobuf';
import { GetTerminalResponseSchema, TerminalService } from '../../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { query } from '../use-case.ts';
import { terminalMessage } from './view.ts';

export const getTerminal = query('terminal', TerminalService.method.getTerminal, {
	*read(tx, _call, { terminal }) {
		return { terminal, nodeName: yield* nameOfNode(tx, terminal.nodeId) };
	},
	answer: ({ deps }, { terminal, nodeName }) => {
		const viewers = deps.terminals.get(terminal.id)?.viewers.size ?? 0;
		return create(GetTerminalResponseSchema, { terminal: terminalMessage(terminal, nodeName, viewers) });
	},
});
