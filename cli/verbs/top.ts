import { create } from '@bufbuild/protobuf';
import { sleep } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import {
	ListNodeTelemetryResponseSchema,
	type NodeGlance,
	TelemetryService,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { type Api, collect, connect } from '../client.ts';
import { type Arguments, type Command, durationMs, pairs, take } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { type Io, printJson, write } from '../io.ts';
import { json } from '../show.ts';
import { rowsOf, type SortKey, sortRows, type TopView } from '../top/rows.ts';
import { bodyRows, renderTop } from '../top/screen.ts';
import { TopTerminal } from '../top/terminal.ts';

/** More than a person can scroll through; the API would give them all. */
const NODES_MAX = 5000;
const PERIOD_DEFAULT_MS = 2000;
const SORTS: Readonly<Record<string, SortKey>> = {
	u: 'utilisation',
	m: 'memory',
	p: 'power',
	t: 'temperature',
	n: 'name',
};

class Top {
	view: TopView = 'gpus';
	sort: SortKey = 'utilisation';
	isReversed = false;
	offset = 0;
	nodes: readonly NodeGlance[] = [];
	trouble = '';
	readonly done = new AbortController();

	/** Whether the screen changes. */
	key(key: string, page: number): boolean {
		const moves: Readonly<Record<string, number>> = {
			'\u001b[A': -1,
			k: -1,
			'\u001b[B': 1,
			j: 1,
			'\u001b[5~': -page,
			'\u001b[6~': page,
			'\u001b[H': Number.NEGATIVE_INFINITY,
		};
		if (key === 'q' || key === '\u0003') this.done.abort();
		else if (key === '\t') {
			this.view = this.view === 'gpus' ? 'nodes' : 'gpus';
			this.offset = 0;
		} else if (key === 'r') this.isReversed = !this.isReversed;
		else if (SORTS[key] !== undefined) {
			this.isReversed = this.sort === SORTS[key] ? !this.isReversed : false;
			this.sort = SORTS[key];
		} else if (moves[key] !== undefined) this.offset += moves[key];
		else return false;
		return true;
	}

	lines(columns: number, rows: number, title: string, isColoured: boolean): string[] {
		const all = sortRows(rowsOf(this.nodes, this.view), this.sort, this.isReversed);
		this.offset = Math.max(0, Math.min(this.offset, all.length - bodyRows(rows)));
		const { view, sort, isReversed, offset, trouble } = this;
		return renderTop(all, { columns, rows, view, sort, isReversed, offset, title, trouble, isColoured });
	}
}

async function look(api: Api, args: Arguments): Promise<readonly NodeGlance[]> {
	const selector = pairs(top, 'selector', args.texts('selector'));
	const { items } = await collect(
		(pageToken) => api.client(TelemetryService).listNodeTelemetry({ pageToken, pageSize: 1000, selector }),
		(response) => response.nodes,
		NODES_MAX,
	);
	return items;
}

async function live(api: Api, args: Arguments, io: Io, periodMs: number): Promise<number> {
	const state = new Top();
	state.nodes = await look(api, args);
	const title = `gpuaas top · ${api.context.name}`;
	const isColoured = (io.env.NO_COLOR ?? '') === '';
	using terminal = new TopTerminal(
		io,
		(key) => {
			if (state.key(key, bodyRows(terminal.rows))) draw();
		},
		() => draw(),
	);
	const draw = () => terminal.draw(state.lines(terminal.columns, terminal.rows, title, isColoured));
	const ended = AbortSignal.any([state.done.signal, io.interrupt]);
	while (!ended.aborted) {
		draw();
		await sleep(io.clock, periodMs, ended);
		if (ended.aborted) break;
		try {
			state.nodes = await look(api, args);
			state.trouble = '';
		} catch (error) {
			// It stays on the screen and goes on: whoever watches a fleet wants to see it come back.
			state.trouble = `these numbers are old: ${messageOf(error)}`;
		}
	}
	return EXIT.ok;
}

const top: Command = {
	name: 'top',
	summary: 'Watch GPUs and nodes live',
	description:
		'Keys: q quits, tab changes between GPUs and nodes, u m p t n sort by utilisation, memory, power, temperature or name (again: the other way), r reverses, arrows and page keys scroll. Where standard output is no terminal it prints one screen.',
	options: {
		selector: {
			type: 'string',
			short: 'l',
			multiple: true,
			value: 'K=V',
			help: 'Only nodes with this label; may be repeated',
		},
		interval: { type: 'string', value: 'DURATION', help: 'How often to look (default 2s)' },
		once: { type: 'boolean', help: 'Print one screen and end' },
	},
	examples: [
		['gpuaas top', 'The fleet that you may see'],
		['gpuaas top -l rack=r3 --once', 'One rack, once'],
	],
	async run(args, io) {
		take(top, args);
		const periodMs = Math.max(500, durationMs(top, 'interval', args.text('interval')) ?? PERIOD_DEFAULT_MS);
		const api = await connect(io, args);
		if (args.flag('json')) {
			const nodes = [...(await look(api, args))];
			await printJson(io, json(ListNodeTelemetryResponseSchema, create(ListNodeTelemetryResponseSchema, { nodes })));
			return EXIT.ok;
		}
		if (io.stdout.isTTY === true && !args.flag('once')) return await live(api, args, io, periodMs);
		const state = new Top();
		state.nodes = await look(api, args);
		const count = rowsOf(state.nodes, state.view).length;
		const lines = state.lines(io.stdout.columns ?? 160, count + 4, `gpuaas top · ${api.context.name}`, false);
		await write(
			io.stdout,
			`${lines
				.slice(0, -1)
				.map((line) => line.trimEnd())
				.join('\n')}\n`,
		);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [top];
