/** How smartctl is asked: it only reads, and leaves a disk alone that sleeps. */
export const SMARTCTL_ARGS: readonly string[] = ['--json=c', '--all', '--nocheck=standby'];

/** Whole disks of the kernel's SCSI layer: SATA, SAS, USB. */
const DEVICE = /^sd[a-z]{1,4}$/;

export function isSmartctlDisk(device: string): boolean {
	return DEVICE.test(device);
}
