/**
 * Short names of XIDs, as NVIDIA's catalogue has them (docs.nvidia.com/deploy/xid-errors): for people who read a label.
 * What an XID means for the host is the health policy's matter.
 */
const TEXTS: Readonly<Record<number, string>> = {
	0: 'No Error',
	8: 'GPU stopped processing',
	13: 'Graphics Engine Exception',
	31: 'GPU memory page fault',
	32: 'Invalid or corrupted push buffer stream',
	38: 'Driver firmware error',
	43: 'GPU stopped processing',
	44: 'Graphics Engine fault during context switch',
	45: 'Preemptive cleanup, due to previous errors',
	46: 'GPU stopped processing',
	48: 'Double Bit ECC Error',
	54: 'Auxiliary power is not connected to the GPU board',
	61: 'Internal micro-controller breakpoint/warning',
	62: 'Internal micro-controller halt',
	63: 'ECC page retirement or row remapping recording event',
	64: 'ECC page retirement or row remapper recording failure',
	68: 'NVDEC0 Exception',
	69: 'Graphics Engine class error',
	74: 'NVLINK Error',
	78: 'vGPU Start Error',
	79: 'GPU has fallen off the bus',
	92: 'High single-bit ECC error rate',
	94: 'Contained ECC error',
	95: 'Uncontained ECC error',
	109: 'Context Switch Timeout Error',
	110: 'Security Fault Error',
	119: 'GSP RPC Timeout',
	120: 'GSP Error',
	121: 'C2C Link Error',
	122: 'SPI PMU RPC read failure',
	136: 'Event logged, link training failed',
	137: 'NVLink FLA privilege error',
	140: 'Unrecovered ECC Error',
	143: 'GPU Initialization Failure',
	154: 'GPU Recovery Action Changed',
};

export function xidText(xid: number): string {
	return TEXTS[xid] ?? 'Unknown Error';
}
