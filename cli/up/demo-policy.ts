/**
 * What the demo's agent may do: everything that a person would try first, as one unprivileged account, and no reboot.
 * Written once; from then on the file belongs to whoever owns the host. Real agents start from deny-by-default.
 */
export function demoPolicy(user: string): string {
	return `# What the control plane may ask of this host. It cannot widen this file.
# Written by gpuaas up for a demo; without this file an agent refuses every task.

[tasks]
kinds = ["run", "collect_bundle"]

[run]
# Accounts that tasks may run as; the first is the default.
users = [${JSON.stringify(user)}]
# Programs by absolute path; * matches within a folder, ** across folders.
binaries = ["/**"]

[collect_bundle]
parts = ["agent", "kernel", "processes", "network", "disks"]

[reboot]
allowed = false
`;
}
