import type { CertificateRow } from '../../store/port/certificates.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { certificateRow } from '../certificates/record.ts';
import type { AppDeps } from '../deps.ts';

/** What a node is given at enrollment, renewal and recovery: made before the unit, recorded in it. */
export interface Issue {
	readonly row: CertificateRow;
	readonly chain: readonly Uint8Array[];
	readonly joinState: string;
	readonly renewalSeq: number;
}

export interface IssueFor {
	readonly nodeId: string;
	readonly generation: number;
	/** Of this issue: one above the node's. */
	readonly renewalSeq: number;
	readonly csrDer: Uint8Array;
}

/** Throws CSR_INVALID. */
export async function issueToNode(deps: AppDeps, wanted: IssueFor): Promise<Issue> {
	const { nodeId, generation, renewalSeq, csrDer } = wanted;
	const nowMs = deps.clock.now();
	const ttlMs = deps.limits.nodeCertificateTtlMs;
	const issued = await deps.authority.issueNodeCertificate({ csrDer, nodeId, ttlMs });
	const { spkiSha256, chain } = issued;
	const joinState = await deps.authority.signJoinState({
		nodeId,
		generation,
		renewalSeq,
		spkiSha256,
		issuedAtMs: nowMs,
	});
	const row = certificateRow(issued, { kind: 'node', id: nodeId, generation }, nowMs);
	return { row, chain, joinState, renewalSeq };
}

/** The same certificate again, for an agent that lost the first answer; the join state is signed anew. */
export async function issueAgain(
	deps: AppDeps,
	row: CertificateRow,
	renewalSeq: number,
): Promise<Pick<Issue, 'chain' | 'joinState'>> {
	const { subjectId: nodeId, generation, spkiSha256, issuedAtMs, issuerKeyId, der } = row;
	const joinState = await deps.authority.signJoinState({ nodeId, generation, renewalSeq, spkiSha256, issuedAtMs });
	const [issuer] = deps.authority.chainOf(issuerKeyId);
	return { chain: issuer === undefined ? [der] : [der, issuer], joinState };
}

/** Puts a certificate into the pending slot; one that waited there unused is superseded. */
export function* fillPendingSlot(tx: Tx, issue: Issue): Plan<void> {
	const { pending } = yield* tx.certificates.slots(issue.row.subjectId);
	if (pending !== undefined) yield* tx.certificates.update(pending.serial, { state: 'superseded' });
	yield* tx.certificates.insert(issue.row);
}

export interface RevokeNode {
	readonly nodeId: string;
	readonly reason: string;
	readonly nowMs: number;
	/** Of the outbox row that tells every replica's denylist. */
	readonly eventId: string;
}

/**
 * Denies every certificate of a node, in the unit that removes or reimages it. After the commit publish
 * `certificates.revoked` with the node's id: the denylist then ends its streams.
 */
export function* revokeNode(tx: Tx, { nodeId, reason, nowMs, eventId }: RevokeNode): Plan<readonly string[]> {
	const live = yield* tx.certificates.listLive(nodeId, nowMs);
	for (const { serial } of live) {
		yield* tx.certificates.update(serial, { state: 'revoked', revokedAtMs: nowMs, revocationReason: reason });
	}
	yield* tx.outbox.append({ id: eventId, topic: 'certificates.revoked', key: nodeId, atMs: nowMs });
	return live.map(({ serial }) => serial);
}
