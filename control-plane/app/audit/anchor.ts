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

/** Size and chain value of a note, unverified: for comparing with our own chain. Undefined for anything else. */
export function chainPointOf(note: string): { origin: string; size: number; chain: Uint8Array } | undefined {
	const [origin, sizeText = '', encoded = ''] = note.split('\n', 3);
	const chain = Buffer.from(encoded, 'base64');
	if (origin === undefined || !/^[1-9]\d{0,15}$/.test(sizeText) || chain.length !== 32) return undefined;
	return { origin, size: Number(sizeText), chain: new Uint8Array(chain) };
}
