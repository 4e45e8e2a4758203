#!/bin/sh
# Runs a script of this checkout on the pinned Node with its tools on PATH; installs the dependencies first when they
# are missing, so that every npm script works in a fresh clone.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/packaging/node.sh"
install_when_missing
find_node
use_compile_cache
cd "$root"
PATH=$root/node_modules/.bin:$PATH
export PATH
exec "$node" "$@"
