import { type Command, take } from '../command.ts';
import { pickContext, readContexts, writeContexts } from '../contexts.ts';
import { EXIT } from '../exit-codes.ts';
import { printJson, printTable, write } from '../io.ts';
import { fields } from '../show.ts';

const list: Command = {
	name: 'context list',
	summary: 'List the control planes that you know',
	examples: [['gpuaas context list', 'The current one has a star']],
	async run(args, io) {
		take(list, args);
		const { current, contexts } = await readContexts(io);
		const rows = Object.entries(contexts).map(([name, context]) => ({
			name,
			address: context.address,
			current: name === current,
		}));
		if (args.flag('json')) await printJson(io, { contexts: rows });
		else {
			await printTable(
				io,
				['', 'NAME', 'ADDRESS'],
				rows.map((row) => [row.current ? '*' : '', row.name, row.address]),
				'no contexts yet; gpuaas up makes one, gpuaas login adds one',
			);
		}
		return EXIT.ok;
	},
};

const use: Command = {
	name: 'context use',
	summary: 'Make a context the current one',
	usage: 'NAME',
	examples: [['gpuaas context use production', 'From now on commands go there']],
	async run(args, io) {
		const [name = ''] = take(use, args, 'NAME');
		const { contexts } = await readContexts(io);
		const context = await pickContext(io, name);
		await writeContexts(io, { current: name, contexts });
		if (args.flag('json')) await printJson(io, { current: name });
		else await write(io.stdout, `now using ${name} (${context.address})\n`);
		return EXIT.ok;
	},
};

const show: Command = {
	name: 'context show',
	summary: 'Show a context, without its key',
	usage: '[NAME]',
	examples: [['gpuaas context show', 'The current one']],
	async run(args, io) {
		const context = await pickContext(io, args.positionals[0] ?? args.text('context'));
		const shown = { name: context.name, address: context.address, data: context.data ?? '' };
		if (args.flag('json')) await printJson(io, shown);
		else await write(io.stdout, fields(Object.entries(shown)));
		return EXIT.ok;
	},
};

const remove: Command = {
	name: 'context remove',
	summary: 'Forget a context and its key',
	usage: 'NAME',
	examples: [['gpuaas context remove old', 'The key is gone from this machine; revoke it at the control plane too']],
	async run(args, io) {
		const [name = ''] = take(remove, args, 'NAME');
		await pickContext(io, name);
		const { current, contexts } = await readContexts(io);
		const { [name]: _, ...rest } = contexts;
		await writeContexts(io, { current: current === name ? '' : current, contexts: rest });
		if (args.flag('json')) await printJson(io, { removed: name });
		else await write(io.stdout, `context ${name} is forgotten\n`);
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [list, use, show, remove];
