import { createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TerminalKind, TerminalService, TerminalState } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { endAbandoned } from './abandoned.ts';

test('what is ended is the own copy to the same path with nobody at its other end, also when the server notices late, and nothing else', async () => {
	const mine = {
		id: 'mine',
		createdBy: 'principal-1',
		kind: TerminalKind.COPY,
		state: TerminalState.OPEN,
		command: 'write /models/',
		viewers: 0,
	};
	const terminals = [
		mine,
		{ ...mine, id: 'theirs', createdBy: 'principal-2' },
		{ ...mine, id: 'attached', viewers: 1 },
		{ ...mine, id: 'noticed late', viewers: 1 },
		{ ...mine, id: 'elsewhere', command: 'write /data/' },
		{ ...mine, id: 'over', state: TerminalState.CLOSED },
		{ ...mine, id: 'shell', kind: TerminalKind.SHELL },
	];
	const killed: string[] = [];
	let lists = 0;
	const transport = createRouterTransport(({ service }) => {
		service(SystemService, { whoAmI: () => ({ principalId: 'principal-1' }) });
		service(TerminalService, {
			listTerminals() {
				lists += 1;
				const seen = terminals.map((each) =>
					each.id === 'noticed late' && lists > 3 ? { ...each, viewers: 0 } : each,
				);
				return { terminals: seen.filter(({ id }) => !killed.includes(id)) };
			},
			killTerminal({ terminalId }) {
				killed.push(terminalId);
				return {};
			},
		});
	});
	const context = { name: 'here', address: 'https://control-plane.example', caPem: '', key: '' };
	const api = {
		context,
		correlationId: '',
		client: <S extends typeof SystemService>(each: S) => createClient(each, transport),
	};
	const clock = new VirtualClock();
	const done = endAbandoned(api as never, clock, 'gpu-07', 'write /models/');
	let isDone = false;
	void done.finally(() => {
		isDone = true;
	});
	while (!isDone) {
		await new Promise<void>((resolve) => systemClock.defer(resolve));
		clock.advance(clock.nextInMs() ?? 0);
	}
	await done;
	expect(killed).toEqual(['mine', 'noticed late']);
});
