import { type Api, connect } from './client.ts';
import { type Arguments, type Command, take } from './command.ts';
import { EXIT } from './exit-codes.ts';
import { type Io, printJson, printTable, write } from './io.ts';

/** What a verb shows: one JSON document, or text for people. */
export type Shown =
	| {
			readonly json: unknown;
			readonly text: string;
			/** Beside the text, on standard error: so that the text can go to a file. */
			readonly note?: string;
	  }
	| {
			readonly json: unknown;
			readonly header: readonly string[];
			readonly rows: readonly (readonly string[])[];
			readonly none: string;
	  };

export interface Asked {
	readonly api: Api;
	readonly io: Io;
	readonly args: Arguments;
	/** The positional arguments, as many as `takes` names. */
	readonly given: readonly string[];
	readonly command: Command;
}

/** A verb that asks the API and shows the answer, with everything that such verbs have in common. */
export function define(
	spec: Omit<Command, 'run' | 'usage'> & {
		readonly takes?: readonly string[];
		act(asked: Asked): Promise<Shown>;
	},
): Command {
	const { takes = [], act, ...rest } = spec;
	const command: Command = {
		...rest,
		...(takes.length === 0 ? {} : { usage: takes.join(' ') }),
		async run(args, io) {
			const given = take(command, args, ...takes);
			const shown = await act({ api: await connect(io, args), io, args, given, command });
			if (args.flag('json')) await printJson(io, shown.json);
			else if ('rows' in shown) await printTable(io, shown.header, shown.rows, shown.none);
			else {
				if (shown.note !== undefined) await write(io.stderr, `${shown.note}\n`);
				await write(io.stdout, `${shown.text.trimEnd()}\n`);
			}
			return EXIT.ok;
		},
	};
	return command;
}
