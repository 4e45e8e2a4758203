/**
 * Where signed heads go so that they outlive the database: a restored backup, which has forgotten its newest records,
 * is recognised by the heads that it can't explain. Files by default (adapters/audit-anchor), witnesses later.
 */
export interface AnchoredHead {
	readonly size: number;
	/** C2SP signed note. */
	readonly note: string;
	readonly atMs: number;
}

export interface HeadAnchor {
	/** The largest one there; undefined when there is none. */
	newest(): AnchoredHead | undefined;
	/** Resolves when it is durable. Rejects DISK_FULL or AUDIT_UNAVAILABLE, and may be called again. */
	append(head: AnchoredHead): Promise<void>;
}

/** For the simulation and for tests: lives as long as this object. */
export class MemoryAnchor implements HeadAnchor {
	readonly heads: AnchoredHead[] = [];

	newest(): AnchoredHead | undefined {
		return this.heads.at(-1);
	}

	append(head: AnchoredHead): Promise<void> {
		this.heads.push(head);
		return Promise.resolve();
	}
}
