import { LAYOUT } from './layout.ts';
import { allocate, type Nvml } from './library.ts';
import { throwWhenGone } from './reader.ts';
import { NVML } from './returns.ts';

/**
 * One nvmlDeviceGetFieldValues for many values of a GPU. Its memory is allocated once; the requests are written again
 * before each call, because the driver writes its answers over them.
 */
export interface FieldRequest {
	readonly field: number;
	readonly scope?: number;
	/** In the table of the part. */
	readonly key: string;
	/** From the driver's unit to ours: multiplied, or divided (exact where the factor would not be). */
	readonly factor?: number;
	readonly divisor?: number;
	/** For what isn't a number times a factor: bit error rates. */
	readonly convert?: (raw: number) => number;
	/** The driver's type word is wrong: r545 says unsigned for memory temperature, which is signed and small. */
	readonly asInt32?: boolean;
}

const { size, offsets } = LAYOUT.nvmlFieldValue_t;
const TYPE_DOUBLE = 0;
const TYPE_UINT32 = 1;
const TYPE_UINT64 = 2;
const TYPE_UINT64_LONG = 3;
const TYPE_INT64 = 4;
const TYPE_INT32 = 5;
const TYPE_UINT16 = 6;

export class FieldBatch {
	readonly #requests: readonly FieldRequest[];
	readonly #buffer: Buffer;

	constructor(requests: readonly FieldRequest[]) {
		this.#requests = requests;
		this.#buffer = allocate('nvmlFieldValue_t', requests.length);
	}

	/** Gives each value that the driver has to `set`. Throws GpuGone. */
	read(nvml: Nvml, handle: number, set: (key: string, value: number) => void): void {
		const buffer = this.#buffer;
		for (const [index, { field, scope = 0 }] of this.#requests.entries()) {
			const at = index * size;
			buffer.fill(0, at, at + size);
			buffer.writeUInt32LE(field, at + offsets.fieldId);
			buffer.writeUInt32LE(scope, at + offsets.scopeId);
			// A driver that skips an entry leaves this, not a success.
			buffer.writeUInt32LE(NVML.notSupported, at + offsets.nvmlReturn);
		}
		const code = nvml.call('nvmlDeviceGetFieldValues', handle, this.#requests.length, buffer);
		throwWhenGone(code);
		if (code !== NVML.success) return;
		for (const [index, request] of this.#requests.entries()) {
			const at = index * size;
			if (buffer.readUInt32LE(at + offsets.nvmlReturn) !== NVML.success) continue;
			const raw = request.asInt32 === true ? buffer.readInt32LE(at + offsets.value) : decode(buffer, at);
			if (Number.isNaN(raw)) continue;
			set(request.key, convert(raw, request));
		}
	}
}

function convert(raw: number, request: FieldRequest): number {
	if (request.convert !== undefined) return request.convert(raw);
	return (raw * (request.factor ?? 1)) / (request.divisor ?? 1);
}

/** A u64 above 2^53 loses its last digits: 2^53 mJ are 285 years at 1 kW, 2^53 bytes nine petabytes. */
function decode(buffer: Buffer, at: number): number {
	const value = at + offsets.value;
	switch (buffer.readUInt32LE(at + offsets.valueType)) {
		case TYPE_DOUBLE:
			return buffer.readDoubleLE(value);
		case TYPE_UINT32:
			return buffer.readUInt32LE(value);
		case TYPE_UINT64:
		case TYPE_UINT64_LONG:
			return Number(buffer.readBigUInt64LE(value));
		case TYPE_INT64:
			return Number(buffer.readBigInt64LE(value));
		case TYPE_INT32:
			return buffer.readInt32LE(value);
		case TYPE_UINT16:
			return buffer.readUInt16LE(value);
		default:
			return Number.NaN;
	}
}

/** NVLink 5 packs a bit error rate into bits 0-7 (exponent) and 8-11 (mantissa): mantissa x 10^-exponent. */
export function bitErrorRate(raw: number): number {
	const mantissa = (raw >> 8) & 0xf;
	return mantissa * 10 ** -(raw & 0xff);
}
