import {
	type HealthFact,
	HealthFactKind,
	HealthSubjectKind,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/**
 * How many XIDs each GPU had since this replica started, from health facts once they are stored: the newest code alone
 * would not tell that the same one came again. For counters, which may begin anew.
 */
export class XidCounts {
	readonly #nodes = new Map<string, Map<string, number>>();

	/** Called after each commit with the facts that it stored. */
	readonly count = (nodeId: string, facts: readonly HealthFact[]): void => {
		for (const { kind, subject, count } of facts) {
			if (kind !== HealthFactKind.XID) continue;
			let gpus = this.#nodes.get(nodeId);
			if (gpus === undefined) {
				gpus = new Map();
				this.#nodes.set(nodeId, gpus);
			}
			const named = subject?.kind === HealthSubjectKind.GPU ? subject.id : '';
			const uuid = gpus.has(named) || gpus.size < GPUS_MAX ? named : '';
			gpus.set(uuid, (gpus.get(uuid) ?? 0) + Math.max(1, count));
		}
	};

	/** By UUID; empty: of no GPU that could be told. GPUs that had none are not in it. */
	of(nodeId: string): ReadonlyMap<string, number> {
		return this.#nodes.get(nodeId) ?? NONE;
	}

	/** The node was removed. */
	forget(nodeId: string): void {
		this.#nodes.delete(nodeId);
	}
}

/** Each is a series: four times the GPUs of the largest host. */
const GPUS_MAX = 64;
const NONE: ReadonlyMap<string, number> = new Map();
