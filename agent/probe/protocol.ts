/**
 * What agent and probe say to each other over Node's IPC channel (structured clone: numbers keep NaN). One request is in
 * flight at a time; the parent keeps its deadline, because a probe that hangs in the driver can't.
 */
export type ProbeRequest =
	| { readonly id: number; readonly op: 'open' }
	| { readonly id: number; readonly op: 'inventory' }
	| {
			readonly id: number;
			readonly op: 'sample';
			readonly slow: boolean;
			/** With the processes of each GPU, in a slow sample. */
			readonly processes: boolean;
	  }
	/** Lets go of the driver and ends. */
	| { readonly id: number; readonly op: 'bye' };

export type ProbeAnswer =
	/** Once, unasked: it has started and listens. What it takes to start is no fault of the driver. */
	| { readonly id: 0; readonly op: 'ready' }
	| { readonly id: number; readonly op: 'open'; readonly opened: OpenedDriver | ProbeFault }
	| { readonly id: number; readonly op: 'inventory'; readonly inventory: GpuInventory }
	| { readonly id: number; readonly op: 'sample'; readonly sample: ProbeSample }
	/** The driver changed under the probe, or its library failed as a whole: it ends, and a new one may fare better. */
	| { readonly id: number; readonly op: 'failed'; readonly fault: ProbeFault };

export interface ProbeFault {
	/** `library` (can't be loaded), or `nvml:<code>`. */
	readonly code: string;
	readonly message: string;
}

export interface OpenedDriver {
	readonly driver: string;
	readonly nvml: string;
	/** 12.4 is 12040; 0: unknown. */
	readonly cuda: number;
	readonly isSimulated: boolean;
	/** Functions that this library lacks: what they measure is absent. */
	readonly missing: readonly string[];
}

export interface GpuInventory {
	readonly gpus: readonly GpuIdentity[];
	/** Listed, and can't be asked. */
	readonly silent: readonly { readonly index: number; readonly code: number }[];
}

export interface GpuIdentity {
	readonly uuid: string;
	readonly index: number;
	readonly name: string;
	readonly serial: string;
	readonly boardPartNumber: string;
	readonly pciBusId: string;
	readonly pciDeviceId: string;
	readonly vbios: string;
	readonly inforom: string;
	readonly gspFirmware: string;
	readonly minor: number;
	readonly numaNode: number;
	readonly memoryBytes: number;
	readonly architecture: number;
	readonly cudaCapability: readonly [number, number];
	readonly nvlinks: number;
	readonly isMig: boolean;
	readonly hasGpm: boolean;
	readonly chassisSerial: string;
	readonly slot: number;
	readonly tray: number;
	readonly moduleId: number;
	readonly fabricCluster: string;
	readonly fabricClique: number;
	readonly slices: readonly SliceIdentity[];
}

export interface SliceIdentity {
	readonly uuid: string;
	readonly gpuUuid: string;
	readonly profile: string;
	readonly gpuInstance: number;
	readonly computeInstance: number;
	readonly memoryBytes: number;
	readonly multiprocessors: number;
	readonly index: number;
}

/** Values of one thing in the order of its table in proto/telemetry-schema. */
export interface PartValues {
	readonly id: string;
	readonly index: number;
	readonly values: Float64Array;
}

export interface ProbeSample {
	readonly gpus: readonly PartValues[];
	readonly slices: readonly PartValues[];
	/** Undefined: a fast sample. */
	readonly slow:
		| {
				readonly gpus: readonly PartValues[];
				readonly nvlinks: readonly PartValues[];
				/** Undefined: not asked for. */
				readonly processes?: { readonly processes: readonly ProcessValues[]; readonly leftOut: number };
		  }
		| undefined;
	readonly events: readonly ProbeEvent[];
	readonly cost: ProbeCost;
	/** The list of GPUs or slices is another than before: ask for the inventory. */
	readonly isListChanged: boolean;
}

/** A process on a GPU or MIG device. NaN: not known. */
export interface ProcessValues {
	readonly id: string;
	/** As the host numbers it. */
	readonly pid: number;
	readonly memoryBytes: number;
	/** Share of the time since the last look in which it kept the multiprocessors busy. */
	readonly sm: number;
}

export interface ProbeEvent {
	/** Empty: of a GPU that isn't known. */
	readonly uuid: string;
	/** NVML's bit. */
	readonly type: number;
	readonly xid: number | undefined;
	/** 0xffffffff: none. */
	readonly gpuInstance: number;
}

export interface ProbeCost {
	readonly sampleMs: number;
	readonly calls: number;
	readonly callMaxMs: number;
	readonly callMax: string;
	readonly rssBytes: number;
	readonly cpuSeconds: number;
}
