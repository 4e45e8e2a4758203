/** What a disk says of itself. What it doesn't say is left out, never 0. */
export interface DiskHealth {
	/** One of SMART. */
	readonly smart: number;
	/** 1: it says of itself that it is well; 0: that it is about to fail. */
	readonly passed?: number;
	/** Share of the rated endurance that is used. */
	readonly wear?: number;
	readonly spare?: number;
	readonly mediaErrors?: number;
	readonly criticalWarning?: number;
	/** Sectors. */
	readonly reallocated?: number;
	readonly pending?: number;
	readonly uncorrectable?: number;
	readonly powerOnSeconds?: number;
	readonly errorsLogged?: number;
	/** Degrees Celsius. */
	readonly temperature?: number;
}

/** How a reading went: the value `smart` of proto/telemetry-schema/disk.ts. */
export const SMART = Object.freeze({ read: 1, asleep: 2, noProgram: 3, none: 4, failed: 5, hung: 6 });

/** A disk did not answer whoever asked it. */
export interface DiskHang {
	/** When the first of those that waited for it without an answer in between was started, by the wall clock. */
	readonly sinceMs: number;
	/** The process, and what the kernel says of it. */
	readonly evidence: string;
	/** The process does not end: no other is started on this disk before it is gone. */
	readonly isLeft: boolean;
}

/** A line that the reader prints for each disk as soon as it has it, so that one that hangs takes no other with it. */
export interface DiskReading {
	/** `sda`, or the controller: `nvme0`. */
	readonly device: string;
	readonly health: DiskHealth;
	/** Why nothing was read; empty: it was. */
	readonly why: string;
	/** Only where `smart` is hung. */
	readonly hang?: DiskHang;
	/** Nobody asked it: one that did not answer before may not answer now. */
	readonly isUnasked?: boolean;
	/** It was late for the first time, which may be a slow answer: no finding yet. */
	readonly isLate?: boolean;
	/** Of one without SMART: it said so itself. */
	readonly isItsWord?: boolean;
}

/** Whether the disk itself answered. Only that is evidence that one which did not answer does so again. */
export function isAnswer({ health: { smart }, isItsWord = false }: DiskReading): boolean {
	return smart === SMART.read || smart === SMART.asleep || (smart === SMART.none && isItsWord);
}

export function without(device: string, smart: number, why: string): DiskReading {
	return { device, health: { smart }, why };
}
