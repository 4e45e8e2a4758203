import { execFileSync } from 'node:child_process';

/** What NVIDIA's own program says of each GPU now, by UUID: the second opinion. Absent where it says [N/A]. */
export const QUERIED = [
	'index',
	'name',
	'serial',
	'pci.bus_id',
	'vbios_version',
	'driver_version',
	'temperature.gpu',
	'temperature.memory',
	'power.draw',
	'power.limit',
	'clocks.sm',
	'clocks.mem',
	'memory.total',
	'memory.used',
	'memory.free',
	'utilization.gpu',
	'utilization.memory',
	'ecc.errors.corrected.volatile.total',
	'ecc.errors.uncorrected.volatile.total',
	'pcie.link.gen.current',
	'pcie.link.width.current',
	'pstate',
] as const;

export type Queried = Readonly<Record<(typeof QUERIED)[number], string>>;

export function queryNvidiaSmi(): ReadonlyMap<string, Queried> {
	const output = execFileSync(
		'nvidia-smi',
		[`--query-gpu=uuid,${QUERIED.join(',')}`, '--format=csv,noheader,nounits'],
		{ encoding: 'utf8', timeout: 60_000 },
	);
	return new Map(
		output
			.trim()
			.split('\n')
			.map((line) => {
				const [uuid = '', ...values] = line.split(',').map((value) => value.trim());
				return [uuid, Object.fromEntries(QUERIED.map((name, at) => [name, values[at] ?? ''])) as Queried];
			}),
	);
}

/** NaN for [N/A], [Not Supported] and the like. */
export function numberOf(text: string): number {
	return /^P?-?\d/.test(text) ? Number.parseFloat(text.replace(/^P/, '')) : Number.NaN;
}
