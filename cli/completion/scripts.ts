import { VERBS } from '../verbs.ts';
import { optionsByVerb, wordsByPath } from './tree.ts';

/** Scripts complete verbs, sub-verbs and options from data, without starting this program at each key. */
export const SCRIPTS: Readonly<Record<string, () => string>> = {
	bash: () => `${posixData()}
_gpuaas() {
  local word="\${COMP_WORDS[COMP_CWORD]}" verb= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    # What follows is the command line of another program.
    [ "\${COMP_WORDS[i]}" = -- ] && return
  done
  for ((i = 1; i < COMP_CWORD; i++)); do
    case " $(_gpuaas_words "$verb") " in
      *" \${COMP_WORDS[i]} "*) verb="$verb\${verb:+ }\${COMP_WORDS[i]}";;
      *) break;;
    esac
  done
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$(_gpuaas_options "$verb")" -- "$word"));;
    *) if [ "$i" -eq "$COMP_CWORD" ]; then COMPREPLY=($(compgen -W "$(_gpuaas_words "$verb")" -- "$word")); fi;;
  esac
}
complete -o default -F _gpuaas gpuaas
`,
	zsh: () => `#compdef gpuaas
${posixData()}
_gpuaas() {
  local verb= i=2 next=
  # What follows -- is the command line of another program.
  if (( \${words[(i)--]} < CURRENT )); then _files; return; fi
  while (( i < CURRENT )); do
    case " $(_gpuaas_words "$verb") " in
      *" \${words[i]} "*) verb="$verb\${verb:+ }\${words[i]}";;
      *) break;;
    esac
    (( i++ ))
  done
  next=$(_gpuaas_words "$verb")
  if [[ \${words[CURRENT]} == -* ]]; then compadd -- \${=$(_gpuaas_options "$verb")}
  elif (( i == CURRENT )) && [[ -n $next ]]; then compadd -- \${=next}
  else _files
  fi
}
# From fpath this file is the function; sourced, it names it.
if [[ \${funcstack[1]} == _gpuaas ]]; then _gpuaas "$@"; else compdef _gpuaas gpuaas; fi
`,
	fish: () => `${fishData()}
function __gpuaas_complete
  set -l verb ''
  set -l over no
  set -l tokens (commandline -opc)
  for token in $tokens[2..-1]
    # What follows is the command line of another program.
    test "$token" = -- ; and return
    if test $over = no ; and contains -- $token (__gpuaas_words "$verb")
      set verb (string trim -- "$verb $token")
    else
      set over yes
    end
  end
  if string match -q -- '-*' (commandline -ct)
    __gpuaas_options "$verb"
  else if test $over = no ; and test -n "$verb"
    __gpuaas_words "$verb"
  end
end
complete -c gpuaas -a '(__gpuaas_complete)'
${VERBS.map(({ name, summary }) => `complete -c gpuaas -f -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}`).join('\n')}
`,
};

/** For bash and zsh alike. */
function posixData(): string {
	const branches = (map: ReadonlyMap<string, readonly string[]>) =>
		[...map].map(([path, words]) => `    '${path}') echo '${words.join(' ')}';;`).join('\n');
	return `_gpuaas_words() {
  case "$1" in
${branches(wordsByPath())}
  esac
}
_gpuaas_options() {
  case "$1" in
${branches(optionsByVerb())}
  esac
}`;
}

function fishData(): string {
	const cases = (map: ReadonlyMap<string, readonly string[]>) =>
		[...map].map(([path, words]) => `    case '${path}'\n      printf '%s\\n' ${words.join(' ')}`).join('\n');
	return `function __gpuaas_words
  switch "$argv[1]"
${cases(wordsByPath())}
  end
end
function __gpuaas_options
  switch "$argv[1]"
${cases(optionsByVerb())}
  end
end`;
}

/** fish reads only \' and \\ inside these. */
function quoted(text: string): string {
	return `'${text.replaceAll(/['\\]/g, (character) => `\\${character}`)}'`;
}
