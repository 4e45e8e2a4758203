/**
 * Which devices a program may open, as the kernel's own lists write it: `c 1:3 rw`, `c 136:* rw`, `b 8:0 r`. Everything
 * is closed that no rule opens, and no rule lets anybody make a device file (mknod). The agent makes the rules
 * (device-files.ts), the hosts of processes and terminals put them in force (process-host/device-groups.ts).
 */
export interface DeviceRule {
	/** c: character, b: block. */
	readonly type: 'c' | 'b';
	readonly major: number;
	readonly minor: number | '*';
	readonly access: 'r' | 'w' | 'rw';
}

/** What can hold programs to such rules: eBPF on cgroup v2, the controller of cgroup v1, or nothing on this host. */
export type DeviceMechanism = 'bpf' | 'cgroup1' | 'none';

/** Whose devices a program may open. */
export interface Confinement {
	/** The assignment, or `platform`: programs of one group share one list. */
	readonly group: string;
	/** Rules; a change binds everybody of the group, also those that run. */
	readonly allow: readonly string[];
}

/** A rule costs 8 instructions of a program, which each open of a device runs through: far more than any host has. */
export const DEVICE_RULES_MAX = 512;

const RULE = /^([cb]) (\d{1,7}):(\d{1,7}|\*) (rw|r|w)$/;
/** dev_t has 12 bits of major and 20 of minor. */
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xf_ffff;
const GROUP = /^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/;

/** Undefined for what is no such rule. */
export function parseDeviceRule(text: string): DeviceRule | undefined {
	const [, type, majorText, minorText, access] = RULE.exec(text) ?? [];
	const major = Number(majorText);
	const minor = minorText === '*' ? '*' : Number(minorText);
	if (type === undefined || major > MAJOR_MAX || (minor !== '*' && minor > MINOR_MAX)) return undefined;
	return { type, major, minor, access } as DeviceRule;
}

/** Why it can't be put in force; undefined when it can. */
export function confinementFault(value: unknown): string | undefined {
	const { group, allow } = (value ?? {}) as Partial<Confinement>;
	if (typeof group !== 'string' || !GROUP.test(group)) return 'confine.group is malformed';
	if (!Array.isArray(allow) || allow.length > DEVICE_RULES_MAX)
		return `confine.allow must be at most ${DEVICE_RULES_MAX} rules`;
	const wrong = allow.find((rule) => typeof rule !== 'string' || parseDeviceRule(rule) === undefined);
	return wrong === undefined ? undefined : `confine.allow: ${JSON.stringify(wrong)} is no rule such as "c 1:3 rw"`;
}
