import { execFile } from 'node:child_process';
import type { Clock } from '../../kit/clock.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { type DiskReading, SMART } from './disk-health.ts';
import { parseSmartctl } from './smartctl-document.ts';

/**
 * Asks smartctl (smartmontools 7.0 and newer) about a SATA or SAS disk: it knows the quirks of thousands of models. It only
 * reads, and leaves a disk alone that sleeps. Called by the short-lived child (disk-main.ts): a disk that is dying may
 * keep it in the kernel past SIGKILL; then it is left behind, and named so that no second one is started on that disk.
 */
export interface Smartctl {
	readonly clock: Clock;
	readonly program: string;
	readonly timeoutMs: number;
}

const ARGS = ['--json=c', '--all', '--nocheck=standby'];
const OUTPUT_BYTES_MAX = 1024 * 1024;
/** From SIGKILL to giving it up. */
const END_MS = 1000;
/** Whole disks of the kernel's SCSI layer: SATA, SAS, USB. */
const DEVICE = /^sd[a-z]{1,4}$/;

export function isSmartctlDisk(device: string): boolean {
	return DEVICE.test(device);
}

/** Never rejects. */
export function readBySmartctl({ clock, program, timeoutMs }: Smartctl, device: string): Promise<DiskReading> {
	const { promise, resolve } = Promise.withResolvers<DiskReading>();
	const late = `smartctl did not answer in ${timeoutMs / 1000} s`;
	const child = execFile(
		program,
		[...ARGS, `/dev/${device}`],
		{
			cwd: '/',
			env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
			timeout: timeoutMs,
			killSignal: 'SIGKILL',
			maxBuffer: OUTPUT_BYTES_MAX,
		},
		(error, stdout) => {
			timer.cancel();
			if ((error as NodeJS.ErrnoException | null)?.code === 'ENOENT')
				resolve(without(device, SMART.noProgram, 'smartctl is not installed (package smartmontools)'));
			else if (error?.killed === true) resolve(without(device, SMART.failed, late));
			else resolve({ device, ...parseSmartctl(stdout) });
		},
	);
	const timer = clock.setTimer(() => {
		const hung = child.pid === undefined ? undefined : processIdentity(child.pid);
		child.stdout?.destroy();
		child.stderr?.destroy();
		child.unref();
		resolve({ ...without(device, SMART.failed, late), ...(hung === undefined ? {} : { hung }) });
	}, timeoutMs + END_MS);
	return promise;
}

export function without(device: string, smart: number, why: string): DiskReading {
	return { device, health: { smart }, why };
}
