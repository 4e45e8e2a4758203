/**
 * Parsers of the kernel's text files (proc(5)), each from text to named values; what a kernel doesn't say is left out.
 * Pure, so that they are tested on recorded files of real kernels.
 */
export type Values = Map<string, number>;

/** USER_HZ is 100 on every architecture that Linux supports for this purpose (time(7)). */
const TICKS_PER_SECOND = 100;
const SECTOR_BYTES = 512;
const CPU_MODES = ['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'];

export function parseStat(text: string, values: Values): void {
	let cpus = 0;
	for (const line of text.split('\n')) {
		const fields = line.split(/\s+/);
		const name = fields[0] ?? '';
		if (name === 'cpu') {
			CPU_MODES.forEach((mode, index) => {
				const ticks = fields[index + 1];
				if (ticks !== undefined && ticks !== '') values.set(`cpu.${mode}`, Number(ticks) / TICKS_PER_SECOND);
			});
		} else if (/^cpu\d+$/.test(name)) cpus += 1;
		else if (name === 'procs_running') values.set('processes.running', Number(fields[1]));
		else if (name === 'procs_blocked') values.set('processes.blocked', Number(fields[1]));
		else if (name === 'btime') values.set('boot.time', Number(fields[1]));
	}
	if (cpus > 0) values.set('cpu.count', cpus);
}

export function parseLoadavg(text: string, values: Values): void {
	const fields = text.split(' ');
	['load.1', 'load.5', 'load.15'].forEach((key, index) => {
		const field = fields[index];
		if (field !== undefined && field !== '') values.set(key, Number(field));
	});
}

const MEMINFO: Readonly<Record<string, string>> = {
	MemTotal: 'memory.total',
	MemAvailable: 'memory.available',
	SwapTotal: 'swap.total',
	SwapFree: 'swap.free',
};

export function parseMeminfo(text: string, values: Values): void {
	for (const line of text.split('\n')) {
		const [name = '', rest = ''] = line.split(':');
		const key = MEMINFO[name];
		// Always kB, which means KiB (proc(5)).
		if (key !== undefined) values.set(key, Number.parseInt(rest, 10) * 1024);
	}
}

/** Sums whole disks: partitions and devices stacked on others would count the same bytes twice. */
export function parseDiskstats(text: string, wholeDisks: ReadonlySet<string>, values: Values): void {
	let read = 0;
	let written = 0;
	let disks = 0;
	for (const line of text.split('\n')) {
		const fields = line.trim().split(/\s+/);
		if (!wholeDisks.has(fields[2] ?? '')) continue;
		disks += 1;
		read += Number(fields[5]) * SECTOR_BYTES;
		written += Number(fields[9]) * SECTOR_BYTES;
	}
	if (disks === 0) return;
	values.set('disk.read', read);
	values.set('disk.written', written);
}

export function parseNetDev(text: string, values: Values): void {
	let received = 0;
	let sent = 0;
	let interfaces = 0;
	for (const line of text.split('\n')) {
		const colon = line.indexOf(':');
		if (colon === -1 || line.slice(0, colon).trim() === 'lo') continue;
		const fields = line
			.slice(colon + 1)
			.trim()
			.split(/\s+/);
		if (fields.length < 9) continue;
		interfaces += 1;
		received += Number(fields[0]);
		sent += Number(fields[8]);
	}
	if (interfaces === 0) return;
	values.set('network.received', received);
	values.set('network.sent', sent);
}

/** `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345` (microseconds). */
export function parsePressure(resource: string, text: string, values: Values): void {
	for (const line of text.split('\n')) {
		const match = /^(some|full) .*total=(\d+)$/.exec(line);
		if (match !== null) values.set(`pressure.${resource}.${match[1] ?? ''}`, Number(match[2]) / 1e6);
	}
}
