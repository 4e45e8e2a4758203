import { type Command, usageError } from '../command.ts';
import { SCRIPTS } from '../completion/scripts.ts';
import { EXIT } from '../exit-codes.ts';
import { write } from '../io.ts';

const completion: Command = {
	name: 'completion',
	isLocal: true,
	noJson: 'a script is what a shell reads, not a document: leave --json out',
	summary: 'Print a completion script for bash, zsh or fish',
	usage: 'bash|zsh|fish',
	examples: [
		['source <(gpuaas completion bash)', 'Completion in this shell'],
		['gpuaas completion zsh > ~/.zfunc/_gpuaas', 'Completion in every zsh that has ~/.zfunc in its fpath'],
	],
	async run(args, io) {
		const script = SCRIPTS[args.positionals[0] ?? ''];
		if (script === undefined || args.positionals.length !== 1)
			throw usageError(completion, 'name one shell: bash, zsh or fish');
		await write(io.stdout, script());
		return EXIT.ok;
	},
};

export const commands: readonly Command[] = [completion];
