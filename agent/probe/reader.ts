import type { CallName } from './calls.ts';
import { type Argument, allocate, type Nvml, readText } from './library.ts';
import { DriverFault, isFatal, isGpuGone, NVML } from './returns.ts';

/**
 * Reads single values of a GPU. Whatever the driver doesn't have is NaN (or empty), never 0; a GPU that is gone ends
 * the whole sample of it by throwing `GpuGone`, because nothing else that it says can be believed.
 */
export class GpuGone extends Error {
	readonly code: number;

	constructor(code: number) {
		super(`NVML answers ${code}`);
		this.code = code;
	}
}

export class Reader {
	readonly nvml: Nvml;
	readonly #a = Buffer.alloc(8);
	readonly #b = Buffer.alloc(8);
	readonly #text = Buffer.alloc(128);

	constructor(nvml: Nvml) {
		this.nvml = nvml;
	}

	/** True when it succeeded. */
	call(name: CallName, ...args: Argument[]): boolean {
		const code = this.nvml.call(name, ...args);
		throwWhenGone(code);
		return code === NVML.success;
	}

	u32(name: CallName, handle: number, ...before: number[]): number {
		return this.call(name, handle, ...before, this.#a) ? this.#a.readUInt32LE(0) : Number.NaN;
	}

	u64(name: CallName, handle: number): number {
		return this.call(name, handle, this.#a) ? Number(this.#a.readBigUInt64LE(0)) : Number.NaN;
	}

	/** Two unsigned ints. */
	pair(name: CallName, handle: number): readonly [number, number] {
		return this.call(name, handle, this.#a, this.#b)
			? [this.#a.readUInt32LE(0), this.#b.readUInt32LE(0)]
			: [Number.NaN, Number.NaN];
	}

	text(name: CallName, handle: number | undefined, length: number): string {
		this.#text.fill(0);
		const size = length === 0 ? [] : [length];
		const args = handle === undefined ? [this.#text, ...size] : [handle, this.#text, ...size];
		return this.call(name, ...args) ? readText(this.#text) : '';
	}

	/** How many processes: asked without room, the driver answers that the room is too small and how much it takes. */
	processes(name: CallName, handle: number): number {
		this.#a.writeUInt32LE(0, 0);
		const code = this.nvml.call(name, handle, this.#a, PROCESS_ROOM);
		throwWhenGone(code);
		return code === NVML.success || code === NVML.insufficientSize ? this.#a.readUInt32LE(0) : Number.NaN;
	}
}

export function throwWhenGone(code: number): void {
	if (isGpuGone(code)) throw new GpuGone(code);
	if (isFatal(code)) throw new DriverFault(code);
}

/** Never written to: the count that goes with it is 0. A null pointer would be refused by some drivers. */
const PROCESS_ROOM = allocate('nvmlProcessInfo_t');
