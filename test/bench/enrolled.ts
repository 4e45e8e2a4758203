import { type IdentityState, STATE_FORMAT } from '../../agent/identity/state-file.ts';
import { storedCredential, toBase64 } from '../../agent/identity/stored-identity.ts';
import type { RunningAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { fillPendingSlot, issueToNode } from '../../control-plane/app/enrollment/issue.ts';
import type { UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { nodeRow } from './node-row.ts';

/** Nodes with certificates of the real authority, as an enrollment leaves them, without its two calls. */
export async function enrollNodes(
	deps: UseCaseDeps,
	authority: RunningAuthority,
	gateway: string,
	count: number,
): Promise<readonly IdentityState[]> {
	const bundle = toBase64(authority.bundle().bytes);
	// One key for all: what is measured is many certificates and connections, not the making of keys.
	const key = generateNodeKey();
	const csrDer = createCsr(key.signer);
	const enroll = async (): Promise<IdentityState> => {
		const nodeId = uuidv7(systemClock.now(), systemRng);
		const issue = await issueToNode(deps, { nodeId, generation: 1, renewalSeq: 1, csrDer });
		await deps.store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow(nodeId));
			yield* fillPendingSlot(tx, issue);
		});
		const { chain, joinState } = issue;
		return {
			format: STATE_FORMAT,
			nodeId,
			nodeName: nodeId,
			generation: 1,
			trustDomain: authority.trustDomain,
			gateways: [gateway],
			enrollAddresses: [],
			bundle,
			current: storedCredential({ chain, keyPem: key.privateKeyPem, joinState }),
			candidate: null,
		};
	};
	const states: IdentityState[] = [];
	for (let done = 0; done < count; done += BATCH)
		states.push(...(await Promise.all(Array.from({ length: Math.min(BATCH, count - done) }, enroll))));
	return states;
}

const BATCH = 64;
