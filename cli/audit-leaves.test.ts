import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { GpuaasError } from '../kit/error.ts';
import { AuditLeafSchema, ExportAuditResponseSchema } from '../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { auditLeaves } from './audit-leaves.ts';

const expired = () =>
	new GpuaasError({ code: 'UNAUTHENTICATED', reason: 'ACCESS_TOKEN_EXPIRED', message: 'the token is over' });

/** Gives `page` records a call, then ends as an export does whose token ran out; `size` are there. */
function exportOf(size: number, page: number, asked: bigint[]) {
	return {
		async *exportAudit({ fromSeq = 1n }: { fromSeq?: bigint }) {
			asked.push(fromSeq);
			const end = Math.min(size, Number(fromSeq) - 1 + page);
			for (let seq = Number(fromSeq); seq <= end; seq += 1)
				yield create(ExportAuditResponseSchema, { leaves: [create(AuditLeafSchema, { seq: BigInt(seq) })] });
			if (end < size) throw expired();
		},
	} as unknown as Parameters<typeof auditLeaves>[0];
}

test('an export that outlives its token goes on where it was, with each record once', async () => {
	const [asked, seen]: [bigint[], bigint[]] = [[], []];
	for await (const { seq } of auditLeaves(exportOf(5, 2, asked))) seen.push(seq);
	expect(seen).toEqual([1n, 2n, 3n, 4n, 5n]);
	expect(asked).toEqual([1n, 3n, 5n]);
});

test('a token that is refused from the start is an error, not a reason to ask for ever', async () => {
	const asked: bigint[] = [];
	await expect(auditLeaves(exportOf(5, 0, asked)).next()).rejects.toThrow('the token is over');
	expect(asked).toEqual([1n]);
});
