import koffi from 'koffi';
import type { Clock } from '../../kit/clock.ts';
import type { CallTrace } from './call-trace.ts';
import { CALLS, type CallName } from './calls.ts';
import { LAYOUT, type StructName, versionWord } from './layout.ts';
import { NVML } from './returns.ts';

/**
 * The driver's library through koffi: synchronous calls on memory that is allocated once. A call that the driver does not
 * answer blocks this process for good, which is why only the probe may have one: its parent keeps the deadline. Never
 * koffi's async calls: four that hang stop the whole of Node's thread pool, and the process can't even exit.
 */
const TYPES: Readonly<Record<string, string>> = { d: 'uintptr_t', u: 'uint32_t', l: 'uint64_t', p: 'void *', s: 'str' };

/** Exported by the test double under test/fakes/nvml, by no driver. */
const DOUBLE_MARK = 'gpuaas_simulated_nvml';

export type Argument = number | bigint | string | Buffer;
type Native = (...args: Argument[]) => number;

export interface CallCost {
	readonly calls: number;
	readonly maxMs: number;
	readonly maxCall: string;
}

export class Nvml {
	/** Values come from the test double: everything that is made of them is labelled. */
	readonly isSimulated: boolean;
	readonly missing: readonly CallName[];
	readonly #functions = new Map<CallName, Native>();
	readonly #clock: Clock;
	readonly #trace: CallTrace;
	#calls = 0;
	#maxMs = 0;
	#maxCall = '';
	#gpuMaxMs = 0;

	/** Throws what koffi says when the library can't be loaded. */
	constructor(path: string, clock: Clock, trace: CallTrace) {
		const library = koffi.load(path);
		this.#clock = clock;
		this.#trace = trace;
		const missing: CallName[] = [];
		for (const [name, shape] of Object.entries(CALLS) as [CallName, string][]) {
			const types = [...shape].map((letter) => TYPES[letter] ?? '').join(', ');
			try {
				this.#functions.set(name, library.func(`int ${name}(${types})`) as Native);
			} catch {
				missing.push(name);
			}
		}
		this.missing = missing;
		this.isSimulated = hasSymbol(library);
	}

	has(name: CallName): boolean {
		return this.#functions.has(name);
	}

	/** The driver's return code; `NVML.missing` when it has no such function. */
	call(name: CallName, ...args: Argument[]): number {
		const call = this.#functions.get(name);
		if (call === undefined) return NVML.missing;
		this.#trace.enter(name);
		const startedAtMs = this.#clock.monotonic();
		const code = call(...args);
		const tookMs = this.#clock.monotonic() - startedAtMs;
		this.#calls += 1;
		if (tookMs > this.#gpuMaxMs) this.#gpuMaxMs = tookMs;
		if (tookMs > this.#maxMs) {
			this.#maxMs = tookMs;
			this.#maxCall = name;
		}
		return code;
	}

	/** From here on `gpuMaxMs` is about another GPU. */
	markGpu(): void {
		this.#gpuMaxMs = 0;
	}

	get gpuMaxMs(): number {
		return this.#gpuMaxMs;
	}

	/** Of the calls since the last look. */
	takeCost(): CallCost {
		const cost = { calls: this.#calls, maxMs: this.#maxMs, maxCall: this.#maxCall };
		this.#calls = 0;
		this.#maxMs = 0;
		this.#maxCall = '';
		return cost;
	}
}

/** Memory for one structure, with its version word where it has one. */
export function allocate(name: StructName, count = 1): Buffer {
	const layout = LAYOUT[name];
	const buffer = Buffer.alloc(layout.size * count);
	const word = versionWord(layout);
	if (word !== 0) buffer.writeUInt32LE(word, 0);
	return buffer;
}

export function readHandle(buffer: Buffer, offset = 0): number {
	// User space ends below 2^47 (2^56 with five-level paging, which no allocation gets unasked).
	return Number(buffer.readBigUInt64LE(offset));
}

export function readText(buffer: Buffer, offset = 0, length = buffer.length - offset): string {
	const end = buffer.indexOf(0, offset);
	const until = end === -1 || end > offset + length ? offset + length : end;
	return buffer.toString('latin1', offset, until).trim();
}

function hasSymbol(library: ReturnType<typeof koffi.load>): boolean {
	try {
		library.func(`int ${DOUBLE_MARK}()`);
		return true;
	} catch {
		return false;
	}
}
