import { execFile } from 'node:child_process';
import { type Clock, systemClock } from '../../kit/clock.ts';
import type { GpuIdentity } from './protocol.ts';

/**
 * What GPUs there are, from NVIDIA's own program, once at boot: only where koffi has no binary for this platform, so that
 * the inventory is right at least. Never polled: it starts a process that opens the driver anew, and may hang with it.
 */
const TIMEOUT_MS = 60_000;
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
const MIB = 1_048_576;

export interface SmiInventory {
	readonly driver: string;
	/** 12.4 is 12040; 0: unknown. */
	readonly cuda: number;
	readonly gpus: readonly GpuIdentity[];
}

/** Undefined when the program isn't there, fails, or takes too long: also when nothing ends it, in the driver. */
export function askNvidiaSmi(
	program = 'nvidia-smi',
	clock: Pick<Clock, 'setTimer'> = systemClock,
): Promise<SmiInventory | undefined> {
	return new Promise((resolve) => {
		const child = execFile(
			program,
			['-q', '-x'],
			{
				cwd: '/',
				env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
				maxBuffer: OUTPUT_BYTES_MAX,
			},
			(error, stdout) => {
				timer.cancel();
				resolve(error === null ? parseNvidiaSmi(stdout) : undefined);
			},
		);
		child.unref();
		const timer = clock.setTimer(() => {
			child.kill();
			// One that stays in the kernel is left behind, and keeps nobody here.
			child.stdout?.destroy();
			child.stderr?.destroy();
			resolve(undefined);
		}, TIMEOUT_MS);
	});
}

export function parseNvidiaSmi(xml: string): SmiInventory {
	const [major = 0, minor = 0] = text(xml, 'cuda_version').split('.').map(Number);
	const gpus = [...xml.matchAll(/<gpu id="([^"]*)">([\s\S]*?)<\/gpu>/g)];
	return {
		driver: text(xml, 'driver_version'),
		cuda: major * 1000 + minor * 10 || 0,
		gpus: gpus.map(([, busId = '', body = ''], index) => identityOf(busId, body, index)),
	};
}

function identityOf(busId: string, body: string, index: number): GpuIdentity {
	const memory = /<fb_memory_usage>[\s\S]*?<total>(\d+) MiB/.exec(body)?.[1];
	return {
		uuid: text(body, 'uuid'),
		index,
		name: text(body, 'product_name'),
		serial: text(body, 'serial'),
		boardPartNumber: text(body, 'board_part_number'),
		pciBusId: busId,
		pciDeviceId: text(body, 'pci_device_id').replace(/^0x/, '').toLowerCase(),
		vbios: text(body, 'vbios_version'),
		inforom: text(body, 'img_version'),
		gspFirmware: text(body, 'gsp_firmware_version'),
		minor: Number(text(body, 'minor_number')) || 0,
		numaNode: -1,
		memoryBytes: Number(memory ?? 0) * MIB,
		architecture: 0,
		cudaCapability: [0, 0],
		nvlinks: 0,
		isMig: text(body, 'current_mig') === 'Enabled',
		hasGpm: false,
		chassisSerial: '',
		slot: 0,
		tray: 0,
		moduleId: 0,
		fabricCluster: '',
		fabricClique: 0,
		slices: [],
	};
}

function text(xml: string, tag: string): string {
	const value = new RegExp(`<${tag}>([^<]*)</${tag}>`).exec(xml)?.[1]?.trim() ?? '';
	return /^(N\/A|\[N\/A\]|Requested functionality.*)$/.test(value) ? '' : value;
}
