import { agentBundleOf, assertFollows } from '../../../agent/identity/bundle.ts';
import type { AgentBundle, AgentCredential, AgentIdentity } from '../../../agent/identity/identity.ts';
import { present } from '../../../kit/assert.ts';
import type { SyncSigner } from '../../../pki/keys/signer.ts';
import { decodeBundle } from '../../../pki/trust/bundle.ts';
import { parseCertificate } from '../../../pki/x509/parse.ts';
import { simSigner } from './keys.ts';

/**
 * An agent's identity on a simulated disk, with the rules of the real one for bundles and candidates: what is stored is
 * durable before anybody hears of it. Its keys sign deterministically; TLS is not simulated, so no key is ever PEM.
 */
export interface IdentityImage {
	readonly nodeId: string;
	readonly nodeName: string;
	readonly generation: number;
	readonly trustDomain: string;
	/** What the current key is made from. */
	readonly keySeed: string;
	readonly chain: readonly Uint8Array[];
	readonly candidate: { readonly keySeed: string; readonly chain: readonly Uint8Array[] } | undefined;
	readonly joinState: string;
	readonly renewalSeq: number;
	readonly bundle: Uint8Array;
}

export class SimIdentity implements AgentIdentity {
	readonly gateways = ['gateway.sim:9443'];
	readonly #listeners: (() => void)[] = [];
	readonly #save: (image: IdentityImage) => void;
	#image: IdentityImage;
	#bundle: AgentBundle;
	#credential: AgentCredential;
	#signer: SyncSigner;

	/** `save` writes the disk; a dead agent's writes go nowhere. */
	constructor(image: IdentityImage, save: (image: IdentityImage) => void) {
		this.#image = image;
		this.#save = save;
		this.#bundle = agentBundleOf(decodeBundle(image.bundle));
		const { credential, signer } = open(image);
		this.#credential = credential;
		this.#signer = signer;
	}

	get nodeId(): string {
		return this.#image.nodeId;
	}

	get nodeName(): string {
		return this.#image.nodeName;
	}

	get generation(): number {
		return this.#image.generation;
	}

	get trustDomain(): string {
		return this.#image.trustDomain;
	}

	credential(): AgentCredential {
		return this.#credential;
	}

	bundle(): AgentBundle {
		return this.#bundle;
	}

	storeBundle(bytes: Uint8Array): boolean {
		const next = decodeBundle(bytes);
		if (!assertFollows(decodeBundle(this.#image.bundle), next)) return false;
		this.#write({ ...this.#image, bundle: bytes.slice() });
		this.#bundle = agentBundleOf(next);
		this.#changed();
		return true;
	}

	joinState(): string {
		return this.#image.joinState;
	}

	renewalSeq(): number {
		return this.#image.renewalSeq;
	}

	/** `keyPem` carries the seed of the new key. */
	storeRenewal(renewal: {
		readonly chain: readonly Uint8Array[];
		readonly keyPem: string;
		readonly joinState: string;
	}): void {
		const { chain, keyPem: keySeed, joinState } = renewal;
		const renewalSeq = this.#image.renewalSeq + 1;
		this.#write({ ...this.#image, candidate: { keySeed, chain }, joinState, renewalSeq });
		this.#reopen();
		this.#changed();
	}

	confirmCredential(serial: string): void {
		const { candidate } = this.#image;
		if (candidate === undefined || serial !== this.#credential.serial) return;
		this.#write({ ...this.#image, ...candidate, candidate: undefined });
	}

	onChange(listener: () => void): void {
		this.#listeners.push(listener);
	}

	sign(bytes: Uint8Array): {
		readonly keyId: string;
		readonly signature: Uint8Array;
		readonly certificate: Uint8Array;
	} {
		return {
			keyId: this.#signer.keyId,
			signature: this.#signer.signSync(bytes),
			certificate: this.#credential.leafDer.slice(),
		};
	}

	#write(image: IdentityImage): void {
		this.#save(image);
		this.#image = image;
	}

	#reopen(): void {
		const { credential, signer } = open(this.#image);
		this.#credential = credential;
		this.#signer = signer;
	}

	#changed(): void {
		for (const listener of [...this.#listeners]) listener();
	}
}

function open(image: IdentityImage): { readonly credential: AgentCredential; readonly signer: SyncSigner } {
	const { keySeed, chain } = image.candidate ?? image;
	const leafDer = present(chain[0], 'a chain has a leaf');
	const parsed = parseCertificate(leafDer);
	if (parsed.kind !== 'ok') throw new Error('the issued certificate cannot be read');
	const { serialHex: serial, issuerKeyIdHex: issuerKeyId, notBeforeMs, notAfterMs } = parsed.certificate;
	const credential = { serial, chainPem: '', keyPem: keySeed, leafDer, issuerKeyId, notBeforeMs, notAfterMs };
	return { credential, signer: simSigner(keySeed, 'ecdsa-p256-sha256') };
}
