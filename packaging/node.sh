# Sourced by ./gpuaas and packaging/with-node.sh, with $root set: finds the pinned Node, installs a checkout's
# dependencies when they are missing, and turns on Node's compile cache. POSIX sh; prints only to standard error.

node_major_min=24

fail() {
	echo "gpuaas: $*" >&2
	exit 125
}

is_checkout() {
	# npm never packs this file, so an installed package has none (its lock has another name).
	[ -f "$root/package-lock.json" ] && [ -d "$root/proto" ]
}

is_installed() {
	# npm writes the hidden lock last, so an interrupted installation is repeated.
	[ -f "$root/node_modules/.package-lock.json" ]
}

install_when_missing() {
	if ! is_checkout || is_installed; then return 0; fi
	command -v npm >/dev/null 2>&1 || fail "this checkout needs its dependencies, and npm is not installed. Install Node.js 20 or later with npm, then repeat the command."
	# Two at once would delete each other's files: the second waits, and finds everything there.
	if command -v flock >/dev/null 2>&1 && [ -w "$root" ]; then
		(flock 9 && { is_installed || install; }) 9>"$root/.install.lock" || exit 125
	else
		install
	fi
}

install() {
	echo "gpuaas: installing dependencies (npm ci, once, about 10 s)..." >&2
	(cd "$root" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 ||
		fail "npm ci failed (see above). Check the network and the npm registry, then repeat the command."
}

# Sets $node.
find_node() {
	case $(uname -m) in
	x86_64 | amd64) arch=x64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) arch=none ;;
	esac
	# A global installation may hoist the runtime beside the package.
	for node in "$root/node_modules/node-linux-$arch/bin/node" "$root/../node-linux-$arch/bin/node" "$root/node_modules/.bin/node"; do
		[ -x "$node" ] && return 0
	done
	node=$(command -v node) || fail "Node.js $node_major_min or later is needed and none was found: neither node-linux-$arch in the package nor node on PATH. Install it, or reinstall with optional dependencies (npm install --include=optional)."
	version=$("$node" -p process.versions.node 2>/dev/null) || version=0
	[ "${version%%.*}" -ge "$node_major_min" ] ||
		fail "Node.js $node_major_min or later is needed; $node is ${version}. Install a newer one, or reinstall with optional dependencies (npm install --include=optional)."
}

# Compiled code may only come from a folder that nobody else can write: it runs with our rights.
use_compile_cache() {
	if [ -n "${NODE_COMPILE_CACHE-}" ] || [ -n "${NODE_DISABLE_COMPILE_CACHE-}" ]; then return 0; fi
	cache_home=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
	case $cache_home in /*) ;; *) return 0 ;; esac
	# Under sudo HOME may still be the caller's.
	if [ -n "${HOME-}" ] && [ ! -O "$HOME" ]; then return 0; fi
	(umask 077 && mkdir -p "$cache_home/gpuaas") 2>/dev/null || return 0
	if [ -h "$cache_home/gpuaas" ] || [ ! -O "$cache_home/gpuaas" ] || [ ! -O "$cache_home" ]; then return 0; fi
	NODE_COMPILE_CACHE=$cache_home/gpuaas/compile-cache
	export NODE_COMPILE_CACHE
}
