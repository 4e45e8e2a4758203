import { fileURLToPath } from 'node:url';
import { loaderArgs } from '../../kit/loader-args.ts';
import { type DiskAnswer, DiskChildren, type DiskChildrenOptions } from './disk-children.ts';
import { type DiskReading, SMART, without } from './disk-health.ts';
import { parseNvmeLine } from './nvme.ts';
import { SMALL_HEAP_ARGS } from './small-heap.ts';
import { SMARTCTL_ARGS } from './smartctl.ts';
import { parseSmartctl } from './smartctl-document.ts';

/**
 * Asks disks one after the other, each by a process of its own: SATA and SAS by smartctl (smartmontools 7.0 and newer,
 * which knows the quirks of thousands of models, only reads, and leaves a disk alone that sleeps), an NVMe controller by
 * nvme-main.ts. One that does not answer costs its deadline; the others are read as if it weren't there.
 */
export interface DiskReadingsOptions extends DiskChildrenOptions {
	/** `sda`, `nvme0`; asked in this order. */
	readonly devices: readonly string[];
	readonly smartctl: string;
	/** Program and arguments before the controller's name; default: our own. */
	readonly nvmeReader?: readonly string[];
}

const mainPath = fileURLToPath(
	new URL(import.meta.url.endsWith('.ts') ? './nvme-main.ts' : './nvme-main.js', import.meta.url),
);

/** Never rejects but for what `onReading` throws. */
export async function readDisks(
	options: DiskReadingsOptions,
	onReading: (reading: DiskReading) => void,
): Promise<void> {
	const children = new DiskChildren(options);
	// One after the other: thirty programs at once would be a load of their own.
	for (const device of options.devices) onReading(await readDisk(children, options, device));
}

async function readDisk(
	children: DiskChildren,
	{
		smartctl,
		nvmeReader = [process.execPath, ...SMALL_HEAP_ARGS, ...loaderArgs(), mainPath, '/dev'],
		timeoutMs,
	}: DiskReadingsOptions,
	device: string,
): Promise<DiskReading> {
	const isNvme = device.startsWith('nvme');
	const [program = '', ...args] = isNvme ? [...nvmeReader, device] : [smartctl, ...SMARTCTL_ARGS, `/dev/${device}`];
	const answer = await children.ask(device, program, args);
	if (answer.kind !== 'ended') return unanswered(device, answer, timeoutMs);
	return isNvme ? parseNvmeLine(device, answer.stdout) : { device, ...parseSmartctl(answer.stdout) };
}

function unanswered(
	device: string,
	answer: Exclude<DiskAnswer, { readonly kind: 'ended' }>,
	timeoutMs: number,
): DiskReading {
	switch (answer.kind) {
		case 'no_program':
			return {
				...without(device, SMART.noProgram, 'smartctl is not installed (package smartmontools)'),
				isUnasked: true,
			};
		case 'not_asked':
			return { ...without(device, SMART.failed, answer.why), isUnasked: true };
		case 'late':
			return {
				...without(device, SMART.failed, `no answer in ${timeoutMs / 1000} s: it is asked again soon`),
				isLate: true,
			};
		case 'hung': {
			const { hang } = answer;
			const why = `no answer in ${timeoutMs / 1000} s${hang.isLeft ? ', and its process does not end' : ''}`;
			return { ...without(device, SMART.hung, why), hang };
		}
	}
}
