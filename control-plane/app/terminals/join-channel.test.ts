import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { ChannelHelloSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { TerminalHub } from './hub.ts';
import { type JoinDeps, joinChannel } from './join-channel.ts';
import type { Recorder } from './recorder.ts';

const ROW = { id: 't', nodeId: 'n', tty: true, state: 'open', openedAtMs: 1 } as unknown as TerminalRow;

function world(recorders: (hub: TerminalHub) => JoinDeps['recorders']) {
	const hub = new TerminalHub(new VirtualClock());
	const deps = {
		clock: hub.clock,
		log: silentLogger,
		store: { unit: async () => ROW },
		bus: { publish: () => {} },
		terminals: hub,
		recorders: recorders(hub),
	} as unknown as JoinDeps;
	const join = () => {
		const hello = create(ChannelHelloSchema, { channelId: 't', user: 'jane' });
		return joinChannel(deps, { log: silentLogger } as RequestContext, 'n', hello, { send: () => {}, end: () => {} });
	};
	return { hub, join };
}

test('a recording that began while its terminal was ended is sealed, with the reason', async () => {
	const ends: string[] = [];
	const recorder = {
		onDrain: () => {},
		end: async (why: string) => void ends.push(why),
	} as unknown as Recorder;
	const { join } = world((hub) => ({
		async open() {
			// As KillTerminal does it: there is no recording yet, and the relay is nobody's any more.
			hub.get('t')?.end('TERMINAL_KILLED', 'enough');
			hub.remove('t');
			return { kind: 'recording', recorder };
		},
	}));
	await join();
	expect(ends).toEqual(['TERMINAL_KILLED']);
});
