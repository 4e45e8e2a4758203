#!/bin/sh
# Installs the programs that the tests use, where they are missing, from the distribution's packages. With --required
# it fails when one stays missing (CI); otherwise it says which tests will be skipped.
set -eu

required=no
[ "${1-}" != --required ] || required=yes

have() {
	command -v "$1" >/dev/null 2>&1 && return 0
	for folder in /usr/lib/postgresql/*/bin /usr/local/sbin /usr/sbin /sbin; do
		[ -x "$folder/$1" ] && return 0
	done
	return 1
}

have_venv() {
	python3 -c 'import ensurepip, venv' >/dev/null 2>&1
}

# program:package
wanted='postgres:postgresql psql:postgresql-client openssl:openssl prometheus:prometheus promtool:prometheus curl:curl python3:python3 setpriv:util-linux prlimit:util-linux git:git cc:gcc java:openjdk-17-jre-headless mvn:maven unzip:unzip bash:bash vim:vim less:less tmux:tmux htop:htop top:procps tar:tar fido2-assert:fido2-tools'

missing() {
	for pair in $wanted; do have "${pair%%:*}" || echo "${pair##*:}"; done
	have_venv || echo python3-venv
	# A compiler without its library's headers compiles nothing.
	[ -e /usr/include/stdio.h ] || echo libc6-dev
}

packages=$(missing | sort -u | tr '\n' ' ')
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "tests: installing $packages" >&2
	# Packages of servers start them; the tests start their own.
	guard=/usr/sbin/policy-rc.d
	if [ ! -e "$guard" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$guard"
		chmod +x "$guard"
		trap 'rm -f "$guard"' EXIT
	fi
	export DEBIAN_FRONTEND=noninteractive
	options='-o Acquire::Retries=5 -o DPkg::Lock::Timeout=300'
	# shellcheck disable=SC2086
	{ apt-get $options update -qq && apt-get $options install -y -qq --no-install-recommends $packages; } >&2 || true
	packages=$(missing | sort -u | tr '\n' ' ')
	[ -n "$packages" ] || exit 0
fi

if [ "$required" = yes ]; then
	echo "tests: cannot run without: $packages. Install these packages as root (apt-get install $packages), then repeat." >&2
	exit 1
fi
echo "tests: not installed: $packages; the tests that need them are skipped" >&2
