/** What NVML calls answer (nvmlReturn_t): those that decide something here. */
export const NVML = Object.freeze({
	success: 0,
	uninitialised: 1,
	notSupported: 3,
	noPermission: 4,
	insufficientSize: 7,
	driverNotLoaded: 9,
	timeout: 10,
	functionNotFound: 13,
	corruptedInforom: 14,
	gpuIsLost: 15,
	resetRequired: 16,
	libraryMismatch: 18,
	argumentVersionMismatch: 25,
	unknown: 999,
	/** Ours, never NVML's: the library has no such function. */
	missing: -1,
});

const MEANING: Readonly<Record<number, string>> = {
	1: 'NVML was not initialised',
	4: 'no permission',
	9: 'the NVIDIA driver is not loaded',
	12: 'the driver library was not found',
	14: 'the infoROM of the GPU is corrupted',
	15: 'the GPU is lost: it fell off the bus or does not answer',
	16: 'the GPU needs a reset',
	17: 'the operating system blocked the driver',
	18: 'driver and library have different versions: the driver was changed under us',
	28: 'no GPU was found',
	999: 'an internal error of the driver',
};

export function describeReturn(code: number): string {
	return MEANING[code] ?? `NVML error ${code}`;
}

export function faultOf(code: number): { readonly code: string; readonly message: string } {
	return { code: `nvml:${code}`, message: describeReturn(code) };
}

/** What no GPU is to blame for: the probe ends, and a new one loads the library that is there then. */
export function isFatal(code: number): boolean {
	return code === NVML.uninitialised || code === NVML.driverNotLoaded || code === NVML.libraryMismatch;
}

/** What a driver answers that doesn't know the question; another failure is about the thing that was asked. */
const UNABLE: ReadonlySet<number> = new Set([
	NVML.missing,
	NVML.notSupported,
	NVML.noPermission,
	NVML.functionNotFound,
	NVML.argumentVersionMismatch,
]);

/** The handle is of nothing any more, as far as this answer tells. */
export function isHandleStale(code: number): boolean {
	return code !== NVML.success && !UNABLE.has(code);
}

/** A GPU that answers this answers nothing else. */
export function isGpuGone(code: number): boolean {
	return code === NVML.gpuIsLost || code === NVML.resetRequired;
}

/** The driver as a whole is of no use to this process any more. */
export class DriverFault extends Error {
	readonly code: number;

	constructor(code: number) {
		super(describeReturn(code));
		this.code = code;
	}
}
