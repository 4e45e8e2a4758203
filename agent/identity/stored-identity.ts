import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import { loadNodeKey, type NodeKey } from '../../pki/keys/node-key.ts';
import { decodeBundle } from '../../pki/trust/bundle.ts';
import { type ParsedCertificate, parseCertificate } from '../../pki/x509/parse.ts';
import { certificatePem } from '../../pki/x509/pem.ts';
import { agentBundleOf, assertFollows } from './bundle.ts';
import type { AgentBundle, AgentCredential, AgentIdentity } from './identity.ts';
import { joinStateClaims } from './join-state-claims.ts';
import { IdentityFolder, type IdentityState, type StoredCredential } from './state-file.ts';

/** The identity on this host's disk. Every change is durable before anybody hears of it. */
export class StoredIdentity implements AgentIdentity {
	readonly #folder: IdentityFolder;
	readonly #listeners = new Set<() => void>();
	#state: IdentityState;
	#gatewaysOverride: readonly string[] | undefined;
	#bundle: AgentBundle;
	#newest: Opened;

	constructor(folder: IdentityFolder, state: IdentityState) {
		this.#folder = folder;
		this.#state = state;
		this.#bundle = agentBundleOf(decodeBundle(fromBase64(state.bundle)));
		this.#newest = open(state.candidate ?? state.current);
	}

	get nodeId(): string {
		return this.#state.nodeId;
	}

	get nodeName(): string {
		return this.#state.nodeName;
	}

	get generation(): number {
		return this.#state.generation;
	}

	get trustDomain(): string {
		return this.#state.trustDomain;
	}

	get gateways(): readonly string[] {
		return this.#gatewaysOverride ?? this.#state.gateways;
	}

	/** The owner of a host may reach the gateways otherwise than they are advertised. */
	overrideGateways(gateways: readonly string[]): void {
		this.#gatewaysOverride = gateways;
	}

	/** Where an expired node recovers. */
	get enrollAddresses(): readonly string[] {
		return this.#state.enrollAddresses;
	}

	credential(): AgentCredential {
		return this.#newest.credential;
	}

	bundle(): AgentBundle {
		return this.#bundle;
	}

	storeBundle(bytes: Uint8Array): boolean {
		const current = decodeBundle(fromBase64(this.#state.bundle));
		const next = decodeBundle(bytes);
		if (!assertFollows(current, next)) return false;
		this.#write({ ...this.#state, bundle: toBase64(bytes) });
		this.#bundle = agentBundleOf(next);
		this.#changed();
		return true;
	}

	joinState(): string {
		return (this.#state.candidate ?? this.#state.current).joinState;
	}

	renewalSeq(): number {
		return joinStateClaims(this.joinState()).renewalSeq;
	}

	storeRenewal(renewal: {
		readonly chain: readonly Uint8Array[];
		readonly keyPem: string;
		readonly joinState: string;
	}): void {
		const candidate = storedCredential(renewal);
		const opened = open(candidate);
		this.#write({ ...this.#state, candidate });
		this.#newest = opened;
		this.#changed();
	}

	confirmCredential(serial: string): void {
		const { candidate } = this.#state;
		if (candidate === null || this.#newest.credential.serial !== serial) return;
		this.#write({ ...this.#state, current: candidate, candidate: null });
	}

	/** The control plane doesn't know the newest credential (it was restored from before): back to the one before. */
	abandonCandidate(serial: string): boolean {
		if (this.#state.candidate === null || this.#newest.credential.serial !== serial) return false;
		const opened = open(this.#state.current);
		this.#write({ ...this.#state, candidate: null });
		this.#newest = opened;
		this.#changed();
		return true;
	}

	onChange(listener: () => void): void {
		this.#listeners.add(listener);
	}

	sign(bytes: Uint8Array) {
		const { key, credential } = this.#newest;
		return { keyId: key.signer.keyId, signature: key.signer.signSync(bytes), certificate: credential.leafDer };
	}

	/** For the proof of possession of recovery. */
	key(): NodeKey {
		return this.#newest.key;
	}

	folder(): IdentityFolder {
		return this.#folder;
	}

	#write(state: IdentityState): void {
		this.#folder.writeState(state);
		this.#state = state;
	}

	#changed(): void {
		for (const listener of [...this.#listeners]) listener();
	}
}

/** Undefined before enrollment. Throws KEY_FILE_UNSAFE or KEY_FILE_INVALID, which only a new enrollment mends. */
export function loadIdentity(path: string, rng: Rng): StoredIdentity | undefined {
	const folder = new IdentityFolder(path, rng);
	const state = folder.readState();
	return state === undefined ? undefined : new StoredIdentity(folder, state);
}

export function storedCredential(issued: {
	readonly chain: readonly Uint8Array[];
	readonly keyPem: string;
	readonly joinState: string;
}): StoredCredential {
	return { chain: issued.chain.map(toBase64), keyPem: issued.keyPem, joinState: issued.joinState };
}

interface Opened {
	readonly credential: AgentCredential;
	readonly key: NodeKey;
}

function open(stored: StoredCredential): Opened {
	const chain = stored.chain.map(fromBase64);
	const [leafDer] = chain;
	const leaf = leafDer === undefined ? undefined : parsed(leafDer);
	const key = loadNodeKey(stored.keyPem);
	if (leafDer === undefined || leaf === undefined || leaf.spkiSha256Hex !== key.signer.keyId) {
		throw new GpuaasError({
			code: 'DATA_LOSS',
			reason: 'KEY_FILE_INVALID',
			message:
				"the stored certificate and the stored key of this host don't belong together; enroll it again with a new token",
		});
	}
	const credential = {
		serial: leaf.serialHex,
		chainPem: chain.map(certificatePem).join(''),
		keyPem: stored.keyPem,
		leafDer,
		issuerKeyId: leaf.issuerKeyIdHex,
		notBeforeMs: leaf.notBeforeMs,
		notAfterMs: leaf.notAfterMs,
	};
	return { credential, key };
}

function parsed(certificateDer: Uint8Array): ParsedCertificate | undefined {
	const result = parseCertificate(certificateDer);
	return result.kind === 'ok' ? result.certificate : undefined;
}

export function fromBase64(text: string): Uint8Array {
	return new Uint8Array(Buffer.from(text, 'base64'));
}

export function toBase64(bytes: Uint8Array): string {
	assert(bytes.length > 0, 'nothing empty is stored');
	return Buffer.from(bytes).toString('base64');
}
