import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

export type CertificateKind = 'node' | 'replica' | 'task_signing';
export type CertificateState = 'pending' | 'current' | 'superseded' | 'revoked';

/** Every certificate that was ever issued. `expired` is derived from `notAfterMs`. */
export interface CertificateRow {
	/** Lower-case hex, no leading zeros. */
	readonly serial: string;
	readonly kind: CertificateKind;
	readonly subjectId: string;
	readonly state: CertificateState;
	readonly spkiSha256: string;
	readonly issuerKeyId: string;
	readonly generation: number;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
	readonly issuedAtMs: number;
	readonly firstUsedAtMs: number | null;
	readonly revokedAtMs: number | null;
	readonly revocationReason: string;
	readonly der: Uint8Array;
}

export type CertificatePatch = Partial<
	Pick<CertificateRow, 'state' | 'firstUsedAtMs' | 'revokedAtMs' | 'revocationReason'>
>;

export interface Certificates {
	insert(row: CertificateRow): Plan<void>;
	get(serial: string): Plan<CertificateRow | undefined>;
	update(serial: string, patch: CertificatePatch): Plan<CertificateRow | undefined>;
	/** The two slots of a node. */
	slots(
		nodeId: string,
	): Plan<{ readonly current: CertificateRow | undefined; readonly pending: CertificateRow | undefined }>;
	/** The certificates in the slots of these nodes, in no order. */
	slotsOf(nodeIds: readonly string[]): Plan<readonly CertificateRow[]>;
	/** All of a subject that are not revoked and not expired at `nowMs`. */
	listLive(subjectId: string, nowMs: number): Plan<readonly CertificateRow[]>;
	/** By serial. */
	list(page: Page & { readonly subjectId: string | null }): Plan<readonly CertificateRow[]>;
	/** Revoked and not yet expired at `nowMs`: the denylist, with `revokedAtMs` >= `sinceMs`. */
	listDenied(
		nowMs: number,
		sinceMs: number,
		limit: number,
	): Plan<readonly Pick<CertificateRow, 'serial' | 'notAfterMs' | 'revokedAtMs' | 'subjectId'>[]>;
}
