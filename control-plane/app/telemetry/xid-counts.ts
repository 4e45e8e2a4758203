import {
	type HealthFact,
	HealthFactKind,
	HealthSubjectKind,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';

/**
 * How many XIDs each GPU had since this replica started, from health facts once they are stored: the newest code alone
 * would not tell that the same one came again. For counters, which may begin anew.
 */
export interface XidCount {
	readonly real: number;
	/** Of drills, and of a test double of the driver. */
	readonly simulated: number;
}

export class XidCounts {
	readonly #nodes = new Map<string, Map<string, XidCount>>();

	/** Called after each commit with the facts that it stored. */
	readonly count = (nodeId: string, facts: readonly HealthFact[]): void => {
		for (const { kind, subject, count, simulated: isSimulated } of facts) {
			if (kind !== HealthFactKind.XID) continue;
			let gpus = this.#nodes.get(nodeId);
			if (gpus === undefined) {
				gpus = new Map();
				this.#nodes.set(nodeId, gpus);
			}
			const named = subject?.kind === HealthSubjectKind.GPU ? subject.id : '';
			const uuid = gpus.has(named) || gpus.size < GPUS_MAX ? named : '';
			const { real, simulated } = gpus.get(uuid) ?? NOTHING;
			const more = Math.max(1, count);
			gpus.set(uuid, isSimulated ? { real, simulated: simulated + more } : { real: real + more, simulated });
		}
	};

	/** By UUID; empty: of no GPU that could be told. GPUs that had none are not in it. */
	of(nodeId: string): ReadonlyMap<string, XidCount> {
		return this.#nodes.get(nodeId) ?? NONE;
	}

	/** The node was removed. */
	forget(nodeId: string): void {
		this.#nodes.delete(nodeId);
	}
}

/** Each is a series: four times the GPUs of the largest host. */
const GPUS_MAX = 64;
const NONE: ReadonlyMap<string, XidCount> = new Map();
const NOTHING: XidCount = Object.freeze({ real: 0, simulated: 0 });
