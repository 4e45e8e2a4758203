import { assert } from '../../../kit/assert.ts';
import { chainPointOf } from '../../../pki/verify/chain-head.ts';
import type { Store } from '../../store/port/store.ts';

/** Why the chain in the store, which ends at `endSeq`, doesn't continue a signed head; undefined when it does. */
export async function discontinuity(
	store: Store,
	origin: string,
	endSeq: number,
	what: string,
	head: { readonly size: number; readonly note: string },
): Promise<string | undefined> {
	const point = chainPointOf(head.note);
	assert(point !== undefined && point.size === head.size, `${what} is no audit head`);
	if (point.origin !== origin) return `${what} is of another log: ${point.origin}`;
	if (head.size > endSeq) return cutOff(head.size, endSeq);
	const [at] = await store.read((tx) => tx.audit.list(head.size, 1));
	const chain = at?.seq === head.size ? at.chain : null;
	if (chain !== null && Buffer.from(chain).equals(point.chain)) return undefined;
	return `record ${head.size} is not the one that was signed: the log was changed or forked. ${LAST_RESORT}`;
}

const LAST_RESORT =
	'Keep the database and the file of heads as evidence; when nothing better can be restored, gpuaas audit new-log begins a log that cites what was lost';

export function cutOff(signed: number, size: number): string {
	return `a head of ${signed} records was signed and the database has ${size}: it was restored from an old backup or cut off. Restore a newer one. ${LAST_RESORT}`;
}
