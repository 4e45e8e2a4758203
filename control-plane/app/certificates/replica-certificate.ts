import { type Clock, sleep } from '../../../kit/clock.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { Backoff } from '../../../kit/retry.ts';
import { BACKDATE_MS } from '../../../pki/ca/authority.ts';
import { REPLICA_TTL_MS } from '../../../pki/ca/issuer.ts';
import { generateNodeKey } from '../../../pki/keys/node-key.ts';
import { createCsr } from '../../../pki/x509/csr.ts';
import { certificatePem } from '../../../pki/x509/pem.ts';
import { systemContext } from '../../context.ts';
import type { IssuingDeps } from '../enrollment/deps.ts';
import { certificateRow } from './record.ts';
import type { RunningAuthority } from './running-authority.ts';

/**
 * Certificates of this replica's own listeners (gateway, API, enrollment). The key is made in memory, never written,
 * and replaced with each certificate; a restart just issues another one.
 */
export interface ReplicaCredential {
	/** Leaf, issuing CA, root: joiners look for the pinned root in what is presented. PEM. */
	readonly chainPem: string;
	/** PKCS#8 PEM. */
	readonly keyPem: string;
	readonly serial: string;
	readonly issuerKeyId: string;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
}

export interface ReplicaNames {
	readonly replicaId: string;
	/** Beside `gateway.<trust domain>`. */
	readonly dnsNames: readonly string[];
	readonly ipAddresses: readonly string[];
	readonly ttlMs?: number;
}

type ReplicaDeps = Pick<IssuingDeps, 'clock' | 'rng' | 'log' | 'store' | 'appendAudit'>;

export async function issueReplicaCertificate(
	deps: ReplicaDeps,
	authority: RunningAuthority,
	names: ReplicaNames,
): Promise<ReplicaCredential> {
	const { replicaId, dnsNames, ipAddresses } = names;
	const key = generateNodeKey();
	const issued = await authority.issueReplicaCertificate({
		csrDer: createCsr(key.signer),
		subject: { kind: 'replica', id: replicaId, dnsNames, ipAddresses },
		ttlMs: names.ttlMs ?? REPLICA_TTL_MS.default,
	});
	const nowMs = deps.clock.now();
	const ctx = systemContext('certificates/replica', deps.clock, deps.log, uuidv7(nowMs, deps.rng));
	await deps.store.unit(function* (tx) {
		yield* tx.certificates.insert(certificateRow(issued, { kind: 'replica', id: replicaId, generation: 0 }, nowMs));
		yield* deps.appendAudit(tx, ctx, {
			action: 'certificates.issue',
			target: `replicas/${replicaId}`,
			result: 'ok',
			reason: '',
			detail: { certificate: issued.serial, issuer: issued.issuerKeyId },
		});
	});
	const chain = [issued.der, ...authority.chainOf(issued.issuerKeyId)];
	const { serial, issuerKeyId, notBeforeMs, notAfterMs } = issued;
	const chainPem = chain.map(certificatePem).join('');
	return { chainPem, keyPem: key.privateKeyPem, serial, issuerKeyId, notBeforeMs, notAfterMs };
}

export interface KeepReplicaCertificate {
	readonly deps: ReplicaDeps;
	readonly authority: RunningAuthority;
	readonly names: ReplicaNames;
	readonly first: ReplicaCredential;
	/** Swaps it in on every listener. */
	readonly onCredential: (credential: ReplicaCredential) => void;
	readonly signal: AbortSignal;
}

/** Wakes at least this often, so that a clock that jumped or a host that slept is noticed. */
const LOOK_MS = 60_000;

/** Issues the next one at half life, and at once when a rotation made another CA the issuing one. Ends with `signal`. */
export async function keepReplicaCertificate(options: KeepReplicaCertificate): Promise<void> {
	const { deps, authority, names, onCredential, signal } = options;
	const backoff = new Backoff({ baseMs: 1000, maxMs: 300_000 }, deps.rng);
	let credential = options.first;
	while (!signal.aborted) {
		if (!isDue(credential, authority, deps.clock)) {
			await changeOrTimeout(authority, deps.clock, LOOK_MS, signal);
			continue;
		}
		try {
			credential = await issueReplicaCertificate(deps, authority, names);
			backoff.reset();
			onCredential(credential);
			deps.log.info('replica certificate renewed', { serial: credential.serial });
		} catch (error) {
			deps.log.error('replica certificate not renewed', { error, notAfterMs: credential.notAfterMs });
			// A CA that had ended was replaced: at once, or nobody reaches this replica for minutes.
			await changeOrTimeout(authority, deps.clock, backoff.nextMs(), signal);
		}
	}
}

function isDue(credential: ReplicaCredential, authority: RunningAuthority, clock: Clock): boolean {
	const halfMs = (credential.notBeforeMs + credential.notAfterMs) / 2;
	// The next one would end with the CA too, however young this one is.
	const dueMs = Math.max(halfMs, credential.notBeforeMs + BACKDATE_MS + LOOK_MS);
	return clock.now() >= dueMs || credential.issuerKeyId !== authority.activeReplicaIssuer();
}

async function changeOrTimeout(
	authority: RunningAuthority,
	clock: Clock,
	timeoutMs: number,
	signal: AbortSignal,
): Promise<void> {
	const changed = new AbortController();
	const unsubscribe = authority.onChange(() => changed.abort());
	try {
		await sleep(clock, timeoutMs, AbortSignal.any([changed.signal, signal]));
	} finally {
		unsubscribe();
	}
}
