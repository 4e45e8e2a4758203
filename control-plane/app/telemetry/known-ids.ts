import type { TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import { hasId, type NodeIdentities } from './identities.ts';

/**
 * Which ids a node may name. Those of its newest inventory, and for a while a few more: a frame may come before the
 * inventory that explains it. So an agent can't make up a label value with every frame, which would be a series for ever
 * in every Prometheus that listens.
 */
const HOUR_MS = 3_600_000;

export class KnownIds {
	readonly #strangeMax: number;
	readonly #strange = new Map<string, { since: number; readonly ids: Set<string> }>();

	constructor(strangeIdsPerHourMax: number) {
		this.#strangeMax = strangeIdsPerHourMax;
	}

	/** `nowMs` is monotonic. */
	knows(
		nodeId: string,
		identities: NodeIdentities | undefined,
		part: TelemetryPart,
		id: string,
		nowMs: number,
	): boolean {
		if (identities !== undefined && hasId(identities, part, id)) return true;
		let known = this.#strange.get(nodeId);
		if (known === undefined || nowMs - known.since > HOUR_MS) {
			known = { since: nowMs, ids: new Set() };
			this.#strange.set(nodeId, known);
		}
		if (known.ids.has(id)) return true;
		if (known.ids.size >= this.#strangeMax) return false;
		known.ids.add(id);
		return true;
	}

	forget(nodeId: string): void {
		this.#strange.delete(nodeId);
	}
}
