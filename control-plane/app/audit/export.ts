import { create } from '@bufbuild/protobuf';
import {
	type AuditLeaf,
	AuditLeafSchema,
	AuditService,
	ExportAuditResponseSchema,
} from '../../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { stream } from '../use-case.ts';
import { untampered } from './untampered.ts';

const LEAVES_PER_READ = 256;
/** Of one message; a leaf with its clear text may have about 130 KB. */
const MESSAGE_BYTES_MAX = 1024 * 1024;

/**
 * Every leaf that has its position, byte for byte, up to the end of the chain at the time of asking. Copies beside a leaf
 * don't leave, so they are compared here; clear text does, and whoever verifies holds it against the leaf.
 */
export const exportAudit = stream('platform', AuditService.method.exportAudit, {
	async *events(call, _target, decideAgain) {
		const { store } = call.deps;
		const end = (await store.read((tx) => tx.audit.last()))?.seq ?? 0;
		let next = Math.max(1, Number(call.request.fromSeq));
		while (next <= end && !call.ctx.signal.aborted) {
			const from = next;
			const rows = await store.read((tx) => tx.audit.list(from, Math.min(LEAVES_PER_READ, end - from + 1)));
			if (rows.length === 0) return;
			let leaves: AuditLeaf[] = [];
			let bytes = 0;
			for (const row of rows) {
				untampered(row);
				const { seq, leaf, chain, clear } = row;
				const size = leaf.length + (clear?.length ?? 0);
				if (bytes + size > MESSAGE_BYTES_MAX && leaves.length > 0) {
					yield create(ExportAuditResponseSchema, { leaves });
					leaves = [];
					bytes = 0;
				}
				leaves.push(
					create(AuditLeafSchema, {
						seq: BigInt(seq ?? 0),
						leaf,
						chain: chain ?? new Uint8Array(0),
						clear: clear === null ? new Uint8Array(0) : Buffer.from(clear, 'utf8'),
					}),
				);
				bytes += size;
				next = (seq ?? next) + 1;
			}
			yield create(ExportAuditResponseSchema, { leaves });
			await decideAgain();
		}
	},
});
