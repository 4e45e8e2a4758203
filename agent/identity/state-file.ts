import { join } from 'node:path';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import { preparePrivateFolder, readPrivateFile, writePrivateFile } from '../../pki/keys/private-file.ts';

/**
 * What this host keeps of its identity: one file 0600 in a folder 0700, replaced as a whole (write, fsync, rename,
 * fsync of the folder), so that key, certificate, join state and bundle always belong together whatever moment the
 * power fails at. A second file holds the key of an enrollment that is under way: asking again with the same key is
 * what makes a lost answer harmless.
 */
export interface IdentityState {
	readonly format: typeof STATE_FORMAT;
	readonly nodeId: string;
	readonly nodeName: string;
	readonly generation: number;
	readonly trustDomain: string;
	readonly gateways: readonly string[];
	/** host:port of the enrollment listeners: where an expired node recovers. */
	readonly enrollAddresses: readonly string[];
	/** Base64 of pki/trust/bundle bytes. */
	readonly bundle: string;
	readonly current: StoredCredential;
	/** Renewed and not yet used; `current` is kept until it was. */
	readonly candidate: StoredCredential | null;
}

export interface StoredCredential {
	/** DER, base64, leaf first. */
	readonly chain: readonly string[];
	/** PKCS#8 PEM. */
	readonly keyPem: string;
	/** JWS that was issued with it. */
	readonly joinState: string;
}

/** Of an enrollment or recovery that is under way. */
export interface PendingKey {
	/** Token id, or `recovery/<serial>`: another one needs another key. */
	readonly purpose: string;
	readonly keyPem: string;
}

export const STATE_FORMAT = 'gpuaas-agent-identity-v1';
const STATE_FILE = 'identity.json';
const PENDING_FILE = 'pending-key.json';

export class IdentityFolder {
	readonly path: string;
	readonly #rng: Rng;

	/** Makes the folder when it is missing; throws KEY_FILE_UNSAFE when others may enter it. */
	constructor(path: string, rng: Rng) {
		preparePrivateFolder(path);
		this.path = path;
		this.#rng = rng;
	}

	/** Undefined before enrollment. Throws KEY_FILE_UNSAFE or KEY_FILE_INVALID. */
	readState(): IdentityState | undefined {
		const value = this.#read(STATE_FILE);
		if (value === undefined) return undefined;
		if (isState(value)) return value;
		throw this.#invalid(STATE_FILE);
	}

	writeState(state: IdentityState): void {
		this.#write(STATE_FILE, state);
	}

	readPendingKey(purpose: string): string | undefined {
		const value = this.#read(PENDING_FILE);
		return isPendingKey(value) && value.purpose === purpose ? value.keyPem : undefined;
	}

	writePendingKey(pending: PendingKey): void {
		this.#write(PENDING_FILE, pending);
	}

	/** The identity is stored: the key is in it, and an empty file tells nobody anything. */
	clearPendingKey(): void {
		this.#write(PENDING_FILE, {});
	}

	#read(name: string): unknown {
		const bytes = readPrivateFile(join(this.path, name));
		if (bytes === undefined) return undefined;
		try {
			return JSON.parse(bytes.toString('utf8'));
		} catch (error) {
			throw this.#invalid(name, error);
		} finally {
			bytes.fill(0);
		}
	}

	#write(name: string, value: object): void {
		writePrivateFile(join(this.path, name), Buffer.from(JSON.stringify(value)), 'replace', this.#rng);
	}

	#invalid(name: string, cause?: unknown): GpuaasError {
		return new GpuaasError({
			code: 'DATA_LOSS',
			reason: 'KEY_FILE_INVALID',
			message: `${join(this.path, name)} is not what this agent wrote; restore it, or enroll this host again with a new token`,
			...(cause === undefined ? {} : { cause }),
		});
	}
}

/** The file is 0600 in a folder 0700, so the format decides; certificates and keys are parsed when they are loaded. */
function isState(value: unknown): value is IdentityState {
	return typeof value === 'object' && value !== null && 'format' in value && value.format === STATE_FORMAT;
}

function isPendingKey(value: unknown): value is PendingKey {
	return typeof value === 'object' && value !== null && 'purpose' in value && 'keyPem' in value;
}
