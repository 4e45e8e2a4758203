import { createPrivateKey } from 'node:crypto';
import { join } from 'node:path';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import type { SignatureAlgorithm } from '../verify/signature.ts';
import { preparePrivateFolder, readPrivateFile, writePrivateFile } from './private-file.ts';
import { generateSigner, KeyObjectSigner } from './signer.ts';

/**
 * The file driver: one PKCS#8 PEM a key, 0600, in a folder 0700. Anyone who can read the folder has the keys, so its
 * custody is `software`. Synchronous: it is used while a process starts and while a CA is made, never on a hot path.
 */
const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

export class KeyFolder {
	readonly #folder: string;
	readonly #rng: Rng;

	/** Makes the folder when it is missing; throws KEY_FILE_UNSAFE when others may enter it. */
	constructor(folder: string, rng: Rng) {
		preparePrivateFolder(folder);
		this.#folder = folder;
		this.#rng = rng;
	}

	/** The key, or undefined when there is none of that name. Throws KEY_FILE_UNSAFE or KEY_FILE_INVALID. */
	load(name: string): KeyObjectSigner | undefined {
		const path = this.#path(name);
		const pem = readPrivateFile(path);
		if (pem === undefined) return undefined;
		try {
			return new KeyObjectSigner(createPrivateKey({ key: pem, format: 'pem' }));
		} catch (error) {
			throw new GpuaasError({
				code: 'DATA_LOSS',
				reason: 'KEY_FILE_INVALID',
				message: `${path} holds no Ed25519, P-256 or P-384 private key in PKCS#8 PEM; restore it from its backup`,
				cause: error,
			});
		} finally {
			pem.fill(0);
		}
	}

	/** Makes a new key; throws ALREADY_EXISTS when there is one of that name. */
	create(name: string, algorithm: SignatureAlgorithm): KeyObjectSigner {
		const signer = generateSigner(algorithm);
		writePrivateFile(this.#path(name), Buffer.from(signer.exportPkcs8Pem()), 'create', this.#rng);
		return signer;
	}

	/** The key of that name, made when missing; throws KEY_FILE_INVALID when the one there has another algorithm. */
	loadOrCreate(name: string, algorithm: SignatureAlgorithm): KeyObjectSigner {
		const found = this.load(name);
		if (found === undefined) return this.create(name, algorithm);
		if (found.algorithm === algorithm) return found;
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'KEY_FILE_INVALID',
			message: `${this.#path(name)} is an ${found.algorithm} key and ${algorithm} is needed; move it away or restore the right one`,
		});
	}

	#path(name: string): string {
		assert(NAME.test(name), 'a key name is lower-case letters, digits and dashes');
		return join(this.#folder, `${name}.pem`);
	}
}
