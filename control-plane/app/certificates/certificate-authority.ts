/**
 * The running certificate authority: keys behind signers, public state from the store. Issuing and signing touch no
 * database, so that `prepare` can call them and `apply` can record what they made.
 */
export interface CertificateAuthority {
	readonly trustDomain: string;
	/** From a checked CSR: key and proof of possession only. Throws CSR_INVALID. */
	issueNodeCertificate(request: {
		readonly csrDer: Uint8Array;
		readonly nodeId: string;
		readonly ttlMs: number;
	}): Promise<IssuedCertificate>;
	/** DSSE envelope (binary common.v1.DsseEnvelope) by the task-signing key. */
	signTaskDocument(
		payloadType: string,
		payload: Uint8Array,
	): Promise<{ readonly envelope: Uint8Array; readonly signerCertificate: Uint8Array }>;
	signJoinState(state: JoinState): Promise<string>;
	/** Throws JOIN_STATE_INVALID. */
	verifyJoinState(jws: string): JoinState;
	bundle(): { readonly seq: number; readonly bytes: Uint8Array };
	/** Key ids of issuers whose node certificates may open a stream now. */
	acceptedNodeIssuers(): ReadonlySet<string>;
	/** Key id that new node certificates are issued by. */
	activeNodeIssuer(): string;
	/** When the CAs that issue now end: from then on they issue nothing, and everything that they issued has ended. */
	issuersEndMs(): Readonly<Record<'node' | 'replica', number>>;
	/** Why this replica could not take a step of a rotation that was due; empty: none was, or it was taken. */
	readonly rotationTrouble: string;
	/** Hex SHA-256 of each accepted root's SPKI: what join tokens pin. */
	pins(): readonly string[];
	/** DER chain above a node leaf: issuing CA, root. */
	chainOf(issuerKeyId: string): readonly Uint8Array[];
	/** Throws KEY_FILE_INVALID where keys of the set that issues, or of the one before or after it, are missing. */
	assertKeys(): void;
	/** Re-reads the public state from the store after another replica changed it. */
	reload(): Promise<void>;
}

export interface JoinState {
	readonly nodeId: string;
	readonly generation: number;
	/** Rises by one with every issue. */
	readonly renewalSeq: number;
	readonly spkiSha256: string;
	readonly issuedAtMs: number;
}

export interface IssuedCertificate {
	/** Lower-case hex, no leading zeros. */
	readonly serial: string;
	readonly spkiSha256: string;
	readonly issuerKeyId: string;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
	readonly der: Uint8Array;
	/** Leaf first. */
	readonly chain: readonly Uint8Array[];
}
