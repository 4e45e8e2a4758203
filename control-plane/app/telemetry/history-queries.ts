import { GpuaasError } from '../../../kit/error.ts';

/**
 * How many look for history at once on this replica: each may hold megabytes and decode thousands of chunks, on the thread
 * that agents' frames come in on. Past that a caller is told to ask again rather than made to wait.
 */
export class HistoryQueries {
	readonly #max: number;
	#running = 0;

	constructor(max: number) {
		this.#max = max;
	}

	/** To be disposed when the answer is there. Throws TELEMETRY_HISTORY_LIMIT. */
	enter(): Disposable {
		if (this.#running >= this.#max) throw tooMany(this.#max);
		this.#running += 1;
		return {
			[Symbol.dispose]: () => {
				this.#running -= 1;
			},
		};
	}
}

function tooMany(max: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'TELEMETRY_HISTORY_LIMIT',
		message: `${max} questions about history are being answered, which is the most at once; nothing was read, ask again in a few seconds`,
		metadata: { 'retry-after': '2' },
	});
}
