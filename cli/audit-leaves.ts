import type { Client } from '@connectrpc/connect';
import { GpuaasError } from '../kit/error.ts';
import type { AuditLeaf, AuditService } from '../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { hasOutlivedToken } from './oidc/outlived.ts';

/** Every record from the first one, over as many tokens of a login as that takes. */
export async function* auditLeaves(client: Client<typeof AuditService>): AsyncGenerator<AuditLeaf> {
	let next = 1n;
	for (;;) {
		const from = next;
		try {
			for await (const { leaves } of client.exportAudit({ fromSeq: from })) {
				for (const leaf of leaves) {
					yield leaf;
					next = leaf.seq + 1n;
				}
			}
			return;
		} catch (thrown) {
			if (next === from || !hasOutlivedToken(GpuaasError.from(thrown))) throw thrown;
		}
	}
}
