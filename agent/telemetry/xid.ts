/** Lines of the NVIDIA driver in the kernel's log: XIDs of GPUs, SXIDs of NVSwitches, a GPU that left the bus. */
export type DriverLine =
	| { readonly kind: 'xid' | 'sxid'; readonly pciAddress: string; readonly code: number }
	| { readonly kind: 'fallen-off-bus'; readonly pciAddress: string }
	/** The driver names the GPU of the lines that follow. */
	| { readonly kind: 'identity'; readonly pciAddress: string; readonly uuid: string };

const XID = /NVRM: Xid \(((?:PCI:)?[0-9a-fA-F:.]+)\)[^:]*: (\d+),/;
const SXID = /SXid \(((?:PCI:)?[0-9a-fA-F:.]+)\)[^:]*: (\d+),/;
const FALLEN =
	/NVRM: .*GPU (?:at )?((?:PCI:)?[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.\d)?).*has fallen off the bus/;
const IDENTITY = /NVRM: GPU at ((?:PCI:)?[0-9a-fA-F:.]+): (GPU-[0-9a-f-]{36})/;

export function parseDriverLine(text: string): DriverLine | undefined {
	const xid = XID.exec(text);
	if (xid !== null) return { kind: 'xid', pciAddress: normalisePci(xid[1] ?? ''), code: Number(xid[2]) };
	const sxid = SXID.exec(text);
	if (sxid !== null) return { kind: 'sxid', pciAddress: normalisePci(sxid[1] ?? ''), code: Number(sxid[2]) };
	const fallen = FALLEN.exec(text);
	if (fallen !== null) return { kind: 'fallen-off-bus', pciAddress: normalisePci(fallen[1] ?? '') };
	const identity = IDENTITY.exec(text);
	if (identity === null) return undefined;
	return { kind: 'identity', pciAddress: normalisePci(identity[1] ?? ''), uuid: identity[2] ?? '' };
}

/** `PCI:0000:3B:00`, `00000000:3B:00.0` and `0000:3b:00.0` are one: `0000:3b:00`. */
export function normalisePci(address: string): string {
	const [domain = '', bus = '', device = ''] = address.replace(/^PCI:/, '').toLowerCase().split(':');
	return `${domain.slice(-4).padStart(4, '0')}:${bus}:${device.replace(/\.\d+$/, '')}`;
}
