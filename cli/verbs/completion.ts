import { type Command, usageError } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { write } from '../io.ts';
import { VERBS } from '../verbs.ts';

const NAMES = VERBS.map((verb) => verb.name).join(' ');
const GROUPS = VERBS.filter((verb) => verb.verbs !== undefined);

/** Scripts complete verbs and sub-verbs from data, without starting this program at each key. */
const SCRIPTS: Readonly<Record<string, () => string>> = {
	bash: () => `_gpuaas() {
  local word="\${COMP_WORDS[COMP_CWORD]}"
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "${NAMES}" -- "$word")); return; fi
  if [ "$COMP_CWORD" -eq 2 ]; then case "\${COMP_WORDS[1]}" in
${GROUPS.map((verb) => `    ${verb.name}) COMPREPLY=($(compgen -W "${(verb.verbs ?? []).join(' ')}" -- "$word")); return;;`).join('\n')}
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")); return;;
  esac; fi
  case "$word" in -*) COMPREPLY=($(compgen -W "--help --json --context" -- "$word"));; esac
}
complete -o default -F _gpuaas gpuaas
`,
	zsh: () => `#compdef gpuaas
_gpuaas() {
  if (( CURRENT == 2 )); then compadd ${NAMES}; return; fi
  if (( CURRENT == 3 )); then case $words[2] in
${GROUPS.map((verb) => `    ${verb.name}) compadd ${(verb.verbs ?? []).join(' ')}; return;;`).join('\n')}
    completion) compadd bash zsh fish; return;;
  esac; fi
  _files
}
compdef _gpuaas gpuaas
`,
	fish: () =>
		[
			...VERBS.map(
				(verb) => `complete -c gpuaas -n __fish_use_subcommand -a ${verb.name} -d ${JSON.stringify(verb.summary)}`,
			),
			...GROUPS.map(
				(verb) =>
					`complete -c gpuaas -f -n '__fish_seen_subcommand_from ${verb.name}' -a '${(verb.verbs ?? []).join(' ')}'`,
			),
			'',
		].join('\n'),
};

const completion: Command = {
	name: 'completion',
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
