import { create, toBinary } from '@bufbuild/protobuf';
import { assert, present } from '../../../kit/assert.ts';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { type Rng, uuidv7 } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import { AuthorityCertIssuer, type IssueResult, type LeafSubject } from '../../../pki/ca/issuer.ts';
import { signJoinState, verifyJoinState } from '../../../pki/keys/join-state.ts';
import type { Signer, SyncSigner } from '../../../pki/keys/signer.ts';
import {
	acceptedIssuerKeyIds,
	encodeBundle,
	rootPins,
	rootsPem,
	type TrustBundle,
	trustAnchorsPem,
} from '../../../pki/trust/bundle.ts';
import { signDsse } from '../../../pki/verify/dsse.ts';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import { systemContext } from '../../context.ts';
import type { Store } from '../../store/port/store.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { CertificateAuthority, IssuedCertificate, JoinState } from './certificate-authority.ts';
import {
	type AuthorityDocument,
	bundleOf,
	decodeDocument,
	derOf,
	encodeDocument,
	type IssuingSet,
	issuingSet,
	type StoredTaskSigner,
} from './document.ts';
import { type KeyStore, type Making, makeDocument, makeSet, makeTaskSigner, takeUp } from './issuing-set.ts';
import { signerRow } from './record.ts';

/**
 * The certificate authority of a control plane: private keys behind the key store's signers, public state from the
 * store's one document, both checked against each other when it opens. Issuing and signing read only memory. What it
 * made is recorded by the use case that asked. Rotation changes the document (rotate.ts) and then calls `reload`.
 */
export interface AuthorityOptions {
	readonly store: Store;
	/** `<data>/keys`: pki/keys/file.ts. */
	readonly keys: KeyStore;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly trustDomain: string;
	readonly log: Logger;
	readonly appendAudit: AppendAudit;
}

/** The document with everything that is derived from it once, not per call. */
interface Derived {
	readonly version: number;
	readonly document: AuthorityDocument;
	readonly bundle: TrustBundle;
	readonly bundleBytes: Uint8Array;
	readonly acceptedNodeIssuers: ReadonlySet<string>;
	readonly trustAnchorsPem: string;
	readonly pins: readonly string[];
	readonly nodeIssuer: AuthorityCertIssuer;
	readonly replicaIssuer: AuthorityCertIssuer;
	readonly taskSigners: readonly { readonly stored: StoredTaskSigner; readonly signer: SyncSigner }[];
}

/** Takes up the stored authority, or makes one at the first start. Idempotent, also after kill -9 at any step. */
export async function openCertificateAuthority(options: AuthorityOptions): Promise<RunningAuthority> {
	const { store, keys, clock, rng, trustDomain } = options;
	for (;;) {
		const row = await store.read(function* (tx) {
			return yield* tx.authority.get();
		});
		if (row !== undefined) return new RunningAuthority(options, row.version, decodeDocument(row.document));
		const document = await makeDocument({ keys, trustDomain, nowMs: clock.now(), rng });
		await putFirst(options, document);
	}
}

async function putFirst(options: AuthorityOptions, document: AuthorityDocument): Promise<void> {
	const { store, clock, rng, log, appendAudit } = options;
	const nowMs = clock.now();
	const ctx = systemContext('certificates/bootstrap', clock, log, uuidv7(nowMs, rng));
	const { node, replica, taskSigners } = issuingSet(document);
	await store.unit(function* (tx) {
		// Another replica was first: then its document is the one.
		if (!(yield* tx.authority.put(encodeDocument(document), 0))) return;
		for (const signer of taskSigners) yield* tx.certificates.insert(signerRow(signer, replica.keyId, nowMs));
		yield* appendAudit(tx, ctx, {
			action: 'ca.create',
			target: `authorities/${document.trustDomain}`,
			result: 'ok',
			reason: '',
			detail: {
				root: document.root.keyId,
				issuing: node.keyId,
				replica: replica.keyId,
				custody: document.root.custody,
			},
		});
	});
}

export class RunningAuthority implements CertificateAuthority {
	readonly trustDomain: string;
	/** Ed25519, for audit heads under `auditKeyName`. */
	readonly auditSigner: SyncSigner;
	readonly auditKeyName: string;
	/** Why this replica could not take a step of a rotation that was due; empty: none was, or it was taken. */
	rotationTrouble = '';
	readonly #options: AuthorityOptions;
	readonly #joinStateSigner: Signer;
	readonly #listeners = new Set<() => void>();
	#now: Derived;

	constructor(options: AuthorityOptions, version: number, document: AuthorityDocument) {
		if (document.trustDomain !== options.trustDomain) {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'CONFIG_INVALID',
				message: `this control plane was created for the trust domain ${document.trustDomain} and is configured for ${options.trustDomain}; every node would have to enroll again, so set it back or start with another data folder`,
			});
		}
		this.trustDomain = document.trustDomain;
		this.#options = options;
		this.auditSigner = this.#signer(document.auditKey.keyName, document.auditKey.keyId);
		this.auditKeyName = document.auditKey.name;
		this.#joinStateSigner = this.#signer(document.joinStateKey.keyName, document.joinStateKey.keyId);
		this.#now = this.#derive(version, document);
	}

	async issueNodeCertificate(request: {
		readonly csrDer: Uint8Array;
		readonly nodeId: string;
		readonly ttlMs: number;
	}): Promise<IssuedCertificate> {
		const { csrDer, nodeId, ttlMs } = request;
		const subject: LeafSubject = { kind: 'node', id: nodeId };
		return certificateOf(
			await this.#now.nodeIssuer.issue({ subject, csrDer, ttlMs, nowMs: this.#options.clock.now() }),
		);
	}

	/** For listeners: use replica-certificate.ts, which records what this made. */
	async issueReplicaCertificate(request: {
		readonly csrDer: Uint8Array;
		readonly subject: Extract<LeafSubject, { kind: 'replica' }>;
		readonly ttlMs: number;
	}): Promise<IssuedCertificate> {
		return certificateOf(await this.#now.replicaIssuer.issue({ ...request, nowMs: this.#options.clock.now() }));
	}

	async signTaskDocument(
		payloadType: string,
		payload: Uint8Array,
	): Promise<{ readonly envelope: Uint8Array; readonly signerCertificate: Uint8Array }> {
		const nowMs = this.#options.clock.now();
		const { taskSigners } = this.#now;
		const chosen = present(
			taskSigners.findLast(({ stored }) => stored.signsFromMs <= nowMs) ?? taskSigners[0],
			'an issuing set has a task signer',
		);
		const signed = await signDsse(payloadType, payload, chosen.signer);
		return {
			envelope: toBinary(DsseEnvelopeSchema, create(DsseEnvelopeSchema, signed)),
			signerCertificate: derOf(chosen.stored.certificate),
		};
	}

	signJoinState(state: JoinState): Promise<string> {
		return signJoinState({ ...state, spkiSha256Hex: state.spkiSha256 }, this.#joinStateSigner);
	}

	verifyJoinState(jws: string): JoinState {
		const result = verifyJoinState(jws, [this.#joinStateSigner.spki()]);
		if (result.kind === 'ok') {
			const { spkiSha256Hex, ...state } = result.state;
			return { ...state, spkiSha256: spkiSha256Hex };
		}
		throw new GpuaasError({ code: 'UNAUTHENTICATED', reason: result.reason, message: result.message });
	}

	bundle(): { readonly seq: number; readonly bytes: Uint8Array } {
		return { seq: this.#now.document.bundleSeq, bytes: this.#now.bundleBytes };
	}

	acceptedNodeIssuers(): ReadonlySet<string> {
		return this.#now.acceptedNodeIssuers;
	}

	activeNodeIssuer(): string {
		return this.#now.nodeIssuer.issuerKeyId;
	}

	issuersEndMs(): Readonly<Record<'node' | 'replica', number>> {
		const { node, replica } = issuingSet(this.#now.document);
		return { node: node.notAfterMs, replica: replica.notAfterMs };
	}

	pins(): readonly string[] {
		return this.#now.pins;
	}

	chainOf(issuerKeyId: string): readonly Uint8Array[] {
		const { document } = this.#now;
		const root = derOf(document.root.certificate);
		for (const { node, replica } of document.sets) {
			for (const ca of [node, replica]) if (ca.keyId === issuerKeyId) return [derOf(ca.certificate), root];
		}
		return [];
	}

	rootsPem(): readonly string[] {
		return rootsPem(this.#now.bundle);
	}

	/** What a node's certificate must chain to, PEM: `ca` of the gateway's TLS. */
	trustAnchorsPem(): string {
		return this.#now.trustAnchorsPem;
	}

	/** Key id of the CA that replica certificates come from now. */
	activeReplicaIssuer(): string {
		return this.#now.replicaIssuer.issuerKeyId;
	}

	document(): { readonly version: number; readonly document: AuthorityDocument } {
		return this.#now;
	}

	async reload(): Promise<void> {
		const row = await this.#options.store.read(function* (tx) {
			return yield* tx.authority.get();
		});
		if (row === undefined || row.version <= this.#now.version) return;
		this.#now = this.#derive(row.version, decodeDocument(row.document));
		for (const listener of this.#listeners) listener();
	}

	/** The document changed: listeners need new certificates, live sessions the new bundle. */
	onChange(listener: () => void): () => void {
		this.#listeners.add(listener);
		return () => void this.#listeners.delete(listener);
	}

	/** The next issuing set, its keys on disk, in no document yet. Making it twice gives the same keys. */
	makeNextSet(): Promise<IssuingSet> {
		const { document } = this.#now;
		const number = Math.max(...document.sets.map((set) => set.number)) + 1;
		const { keyName, keyId } = document.root;
		const root = takeUp('root', this.trustDomain, document.root, this.#signer(keyName, keyId));
		return makeSet(this.#making(), number, root);
	}

	/** Another task signer for the issuing set, under the name after the newest. */
	makeNextTaskSigner(signsFromMs: number): Promise<StoredTaskSigner> {
		const set = issuingSet(this.#now.document);
		const newest = present(set.taskSigners.at(-1), 'an issuing set has a task signer');
		const next = Number(newest.keyName.split('-').at(-1)) + 1;
		const replicaCa = this.#takeUp('replica', set);
		return makeTaskSigner(this.#making(), `task-signer-${set.number}-${next}`, replicaCa, signsFromMs);
	}

	/** Throws KEY_FILE_INVALID where keys of a set in the document are missing: who activates it could issue nothing. */
	assertKeys(): void {
		for (const set of this.#now.document.sets) {
			for (const { keyName, keyId } of [set.node, set.replica, ...set.taskSigners]) this.#signer(keyName, keyId);
		}
	}

	#making(): Making {
		const { keys, clock, rng } = this.#options;
		return { keys, rng, trustDomain: this.trustDomain, nowMs: clock.now() };
	}

	#takeUp(role: 'node' | 'replica', set: IssuingSet) {
		const stored = set[role];
		return takeUp(role, this.trustDomain, stored, this.#signer(stored.keyName, stored.keyId));
	}

	#derive(version: number, document: AuthorityDocument): Derived {
		const bundle = bundleOf(document);
		const set = issuingSet(document);
		return {
			version,
			document,
			bundle,
			bundleBytes: encodeBundle(bundle),
			acceptedNodeIssuers: acceptedIssuerKeyIds(bundle, 'node'),
			trustAnchorsPem: trustAnchorsPem(bundle).join(''),
			pins: rootPins(bundle),
			nodeIssuer: new AuthorityCertIssuer(this.#takeUp('node', set), this.#options.rng),
			replicaIssuer: new AuthorityCertIssuer(this.#takeUp('replica', set), this.#options.rng),
			taskSigners: set.taskSigners.map((stored) => ({ stored, signer: this.#signer(stored.keyName, stored.keyId) })),
		};
	}

	/** Keys that the document names must be there: making another one in silence would cut off every node. */
	#signer(name: string, keyId: string): SyncSigner {
		const signer = this.#options.keys.load(name);
		if (signer?.keyId === keyId) return signer;
		const what = signer === undefined ? 'is missing' : `is another key than ${keyId.slice(0, 16)}`;
		throw new GpuaasError({
			code: 'DATA_LOSS',
			reason: 'KEY_FILE_INVALID',
			message: `the private key ${name} ${what}, but the store holds a certificate authority that needs it; restore the keys folder that belongs to this store`,
		});
	}
}

function certificateOf(issued: IssueResult): IssuedCertificate {
	if (issued.kind === 'refused') {
		throw new GpuaasError({ code: 'INVALID_ARGUMENT', reason: issued.reason, message: issued.message });
	}
	assert(!issued.serialHex.startsWith('0'), 'our serials have no leading zeros');
	return {
		serial: issued.serialHex,
		spkiSha256: issued.spkiSha256Hex,
		issuerKeyId: issued.issuerKeyIdHex,
		notBeforeMs: issued.notBeforeMs,
		notAfterMs: issued.notAfterMs,
		der: issued.certificateDer,
		chain: issued.chainDer,
	};
}
