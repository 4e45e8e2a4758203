#!/bin/sh
# `npm run up`: the same as ./gpuaas up. npm takes `npm run up --json` as an option of its own, drops it, and leaves
# npm_config_json behind; starting with other settings than were asked for would be worse than not starting.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)

refuse() {
	flag=$(echo "$1" | tr _ -)
	echo "npm kept '--$flag' for itself, so nothing was started. Run one of:" >&2
	echo "  npm run up -- --$flag ..." >&2
	echo "  ./gpuaas up --$flag ..." >&2
	exit 125
}

names_in() {
	tr '\0' '\n' <"$1" 2>/dev/null | sed -n 's/^npm_config_\([A-Za-z0-9_]*\)=..*/\1/p' | tr '\n' ' '
}

# npm's own environment shows what a person had exported before: that is no lost option.
npm_pid=$PPID
while [ "$npm_pid" -gt 1 ] 2>/dev/null; do
	case $(readlink "/proc/$npm_pid/exe" 2>/dev/null) in */node*) break ;; esac
	npm_pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$npm_pid/status" 2>/dev/null) || break
done
exported=" $(names_in "/proc/${npm_pid:-0}/environ" || true) "
suspects=''
for name in $(env | sed -n 's/^npm_config_\([A-Za-z0-9_]*\)=..*/\1/p'); do
	case $exported in *" $name "*) continue ;; esac
	case $name in
	# What npm sets for every script.
	cache | globalconfig | global_prefix | init_module | local_prefix | node_gyp | noproxy | npm_version | prefix | user_agent | userconfig) ;;
	# Options of `up` that npm has too.
	data | api_port | gateway_port | enroll_port | ops_port | store | json | help | verbose) refuse "$name" ;;
	*) suspects="$suspects $name" ;;
	esac
done

# The rest is either a setting from an .npmrc or an option that npm doesn't know.
if [ -n "$suspects" ] && [ -n "${npm_execpath-}" ] && [ -n "${npm_node_execpath-}" ]; then
	settings=$(cd "$root" && env -i HOME="${HOME-/}" PATH="$PATH" "$npm_node_execpath" "$npm_execpath" config ls --long --json 2>/dev/null |
		sed -n 's/^ *"\([a-z0-9-]*\)":.*/\1/p' | tr '\n-' ' _')
	for name in $suspects; do
		case " $settings " in
		"  " | *" $name "*) ;;
		*) refuse "$name" ;;
		esac
	done
fi

exec "$root/gpuaas" up "$@"
