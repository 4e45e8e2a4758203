import { type Api, apiOf } from '../../cli/client.ts';
import { pickContext } from '../../cli/contexts.ts';
import { ChannelClient } from '../../cli/terminal/channel-client.ts';
import { testIo } from '../../cli/test-io.ts';
import { assert, present } from '../../kit/assert.ts';
import { keepAlive, sleep, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { AttachMode, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { serveParent } from './child.ts';
import { parallel } from './measure.ts';

/** Viewers of many terminals in one process, each with the command's own client: what a row of the fleet asks. */
export interface FleetViewers {
	readonly terminals: number;
	/** Of each. */
	readonly bytes: readonly number[];
	/** Times that a viewer fell behind and was shown the screen instead of what came. */
	readonly screens: number;
	readonly ended: number;
}

export interface FleetSettings {
	readonly env: Readonly<Record<string, string>>;
	readonly node: string;
	readonly terminals: number;
	readonly command: readonly string[];
}

/** Of the API: 100 streams a connection. */
const TERMINALS_PER_CONNECTION = 50;
const STARTS_AT_ONCE = 8;

const { env, node, terminals, command } = JSON.parse(process.argv[2] ?? '{}') as FleetSettings;
const io = testIo(env);
const context = await pickContext(io, undefined);
const bytes = new Array<number>(terminals).fill(0);
const ids: string[] = [];
const leaving = new AbortController();
let screens = 0;
let ended = 0;

async function open(api: Api, index: number): Promise<void> {
	const client = api.client(TerminalService);
	const { terminal } = await client.openTerminal({
		node,
		spec: { kind: { case: 'exec', value: { argv: [...command], size: { columns: 80, rows: 24 } } } },
		requestId: uuidv7(systemClock.now(), systemRng),
	});
	const { id } = present(terminal, 'the answer has a terminal');
	ids.push(id);
	let isFirst = true;
	const size = () => ({ columns: 80, rows: 24 });
	const viewer = new ChannelClient(
		io,
		client,
		{ terminalId: id, mode: AttachMode.CONTROL, tty: true, size },
		{
			output: async (_stream, data) => {
				bytes[index] = (bytes[index] ?? 0) + data.length;
			},
			// The first takes the place of what was said before somebody came.
			screen: async () => {
				if (!isFirst) screens += 1;
				isFirst = false;
			},
		},
	);
	viewer.run(leaving.signal).then(
		() => (ended += 1),
		() => (ended += 1),
	);
}

using _alive = keepAlive();
const apis = Array.from({ length: Math.ceil(terminals / TERMINALS_PER_CONNECTION) }, () => apiOf(io, context));
await parallel(terminals, STARTS_AT_ONCE, (index) => open(present(apis[index % apis.length], 'a connection'), index));
while (bytes.some((count) => count === 0)) {
	assert(ended === 0, `none of the ${terminals} terminals ends before all show something; ${ended} did`);
	await sleep(systemClock, 50);
}
await serveParent<string>({}, async (question) => {
	if (question === 'end') {
		const client = present(apis[0], 'a connection').client(TerminalService);
		await parallel(ids.length, STARTS_AT_ONCE, (index) => client.killTerminal({ terminalId: ids[index] ?? '' }));
	}
	return { terminals, bytes: [...bytes], screens, ended } satisfies FleetViewers;
});
leaving.abort();
process.exit();
