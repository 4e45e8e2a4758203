/**
 * Who this agent is: its key, certificate, trust bundle and join state, on this host's disk (0600 files in a 0700
 * folder) and nowhere else. Owned by agent/identity; the link and the tasks read it.
 */
export interface AgentIdentity {
	readonly nodeId: string;
	readonly nodeName: string;
	readonly generation: number;
	readonly trustDomain: string;
	/** host:port, in order of preference. */
	readonly gateways: readonly string[];
	/** The credential to open the next connection with: a renewed one is the candidate from the moment it is stored. */
	credential(): AgentCredential;
	/** Newest stored bundle. */
	bundle(): AgentBundle;
	/** Checks (newer sequence, chained to a trusted root), stores, and tells `onChange`. False when it isn't newer. */
	storeBundle(bytes: Uint8Array): boolean;
	joinState(): string;
	renewalSeq(): number;
	/** Stores a renewed credential and join state atomically (write, fsync, rename), keeping the old one until it is used. */
	storeRenewal(renewal: {
		readonly chain: readonly Uint8Array[];
		readonly keyPem: string;
		readonly joinState: string;
	}): void;
	/** A connection with the newest credential worked: the older one is deleted. */
	confirmCredential(serial: string): void;
	/** Credential or bundle changed: the link opens a second connection and moves over. */
	onChange(listener: () => void): void;
	/** Signs a receipt with the key of `credential()`: ECDSA P-256 / SHA-256, DER, synchronous. */
	sign(bytes: Uint8Array): { readonly keyId: string; readonly signature: Uint8Array; readonly certificate: Uint8Array };
}

export interface AgentCredential {
	/** Lower-case hex, no leading zeros. */
	readonly serial: string;
	/** Leaf and intermediates, PEM. */
	readonly chainPem: string;
	/** PKCS#8 PEM: handed to node:tls and nowhere else. */
	readonly keyPem: string;
	readonly leafDer: Uint8Array;
	readonly issuerKeyId: string;
	readonly notBeforeMs: number;
	readonly notAfterMs: number;
}

export interface AgentBundle {
	readonly seq: number;
	/** Roots that an enroll listener must chain to, PEM. */
	readonly rootsPem: string;
	/** CAs that a gateway must chain to, PEM, for `allowPartialTrustChain`: the roots and what they were seen to have signed. */
	readonly trustAnchorsPem: string;
	/** Issuer key ids of replica certificates that are accepted. */
	readonly replicaIssuers: ReadonlySet<string>;
	/** DER certificates of task-signing keys that are accepted. */
	readonly taskSigners: readonly Uint8Array[];
}
