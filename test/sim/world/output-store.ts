import type { OutputChunk, OutputStore } from '../../../control-plane/app/tasks/output-store.ts';
import { GpuaasError } from '../../../kit/error.ts';

/** Output files of a simulated control plane: what was appended and not synced is gone after a crash. */
interface Log {
	readonly chunks: OutputChunk[];
	syncedCount: number;
}

const endOf = (chunk: OutputChunk | undefined) => (chunk === undefined ? 0 : chunk.offset + chunk.data.length);

export class SimOutputStore implements OutputStore {
	readonly #logs = new Map<string, Log>();
	/** Its disk is full. */
	isFull = false;

	/** What the disk holds when its process died. */
	crash(): void {
		for (const log of this.#logs.values()) log.chunks.length = log.syncedCount;
	}

	/** For checkers. */
	bytes(taskId: string, attempt: number): number {
		return (this.#logs.get(`${taskId}/${attempt}`)?.chunks ?? []).reduce((sum, { data }) => sum + data.length, 0);
	}

	async storedOffset(taskId: string, attempt: number): Promise<number> {
		return endOf(this.#log(taskId, attempt).chunks.at(-1));
	}

	async append(taskId: string, attempt: number, chunks: readonly OutputChunk[]): Promise<number> {
		await this.check();
		const log = this.#log(taskId, attempt);
		for (const chunk of chunks) {
			const at = endOf(log.chunks.at(-1));
			if (endOf(chunk) < at || (endOf(chunk) === at && chunk.data.length > 0)) continue;
			if (chunk.offset - chunk.droppedBytes > at)
				throw new GpuaasError({ code: 'OUT_OF_RANGE', reason: 'INVALID_REQUEST', message: 'a gap in the output' });
			const skip = Math.max(0, at - chunk.offset);
			log.chunks.push(skip === 0 ? chunk : { ...chunk, offset: at, data: chunk.data.slice(skip), droppedBytes: 0 });
		}
		return endOf(log.chunks.at(-1));
	}

	async sync(taskId: string, attempt: number): Promise<void> {
		const log = this.#log(taskId, attempt);
		log.syncedCount = log.chunks.length;
	}

	async read(taskId: string, attempt: number, offset: number, bytesMax: number): Promise<readonly OutputChunk[]> {
		const found: OutputChunk[] = [];
		let bytes = 0;
		for (const chunk of this.#log(taskId, attempt).chunks) {
			if (endOf(chunk) <= offset || bytes >= bytesMax) continue;
			const skip = Math.max(0, offset - chunk.offset);
			found.push({ ...chunk, offset: chunk.offset + skip, data: chunk.data.slice(skip) });
			bytes += chunk.data.length - skip;
		}
		return found;
	}

	async remove(taskId: string): Promise<void> {
		for (const key of [...this.#logs.keys()]) if (key.startsWith(`${taskId}/`)) this.#logs.delete(key);
	}

	async check(): Promise<void> {
		if (this.isFull)
			throw new GpuaasError({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL', message: 'the output disk is full' });
	}

	#log(taskId: string, attempt: number): Log {
		const key = `${taskId}/${attempt}`;
		let log = this.#logs.get(key);
		if (log === undefined) {
			log = { chunks: [], syncedCount: 0 };
			this.#logs.set(key, log);
		}
		return log;
	}
}
