/** kit/log-ring.ts, of the agent's own log. */
export interface RecentLog {
	/** Lines so far. */
	readonly written: number;
	/** The newest, without the first `from` that were ever written; less than the 1 MiB that a task may have as its input. */
	text(from?: number): string;
}

/**
 * What of the agent's own log the bundle of a task may hold. Its lines name tasks and terminals of all who had the node, and
 * the output of a task is its project's: under an assignment it is what was logged since that assignment's first task.
 */
export class HolderLog {
	readonly #log: RecentLog;
	#assignmentId = '';
	#from = 0;

	constructor(log: RecentLog) {
		this.#log = log;
	}

	/** A task came under it; empty: of the platform itself. */
	heard(assignmentId: string): void {
		if (assignmentId === '' || assignmentId === this.#assignmentId) return;
		this.#assignmentId = assignmentId;
		this.#from = this.#log.written;
	}

	textFor(assignmentId: string): string {
		if (assignmentId === '') return this.#log.text();
		return assignmentId === this.#assignmentId ? this.#log.text(this.#from) : '';
	}
}
