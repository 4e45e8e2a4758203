import { type AnchoredHead, MemoryAnchor } from '../../../control-plane/app/audit/anchor.ts';
import { GpuaasError } from '../../../kit/error.ts';

/** The file of signed heads, on a disk that fills up. It outlives every control plane and is never cut. */
export class SimAnchor extends MemoryAnchor {
	isFull = false;

	override append(head: AnchoredHead): Promise<void> {
		if (!this.isFull) return super.append(head);
		const message = 'the disk of the signed heads is full; free space there';
		return Promise.reject(new GpuaasError({ code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL', message }));
	}
}
