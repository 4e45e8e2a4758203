#!/bin/sh
# The reference of the terminal rows: OpenSSH from the distribution, started by the rows on free ports of loopback.
set -eu
[ -x /usr/sbin/sshd ] && command -v ssh >/dev/null 2>&1 && exit 0
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$guard"
	chmod +x "$guard"
	trap 'rm -f "$guard"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server openssh-client; } >&2
