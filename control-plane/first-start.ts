import { rename, writeFile } from 'node:fs/promises';
import type { Rng } from '../kit/ids.ts';
import { readPrivateFile, writePrivateFile } from '../pki/keys/private-file.ts';
import { decodeBundle, rootsPem } from '../pki/trust/bundle.ts';
import { noteKey, noteKeyText } from '../pki/verify/signed-note.ts';
import type { RunningAuthority } from './app/certificates/running-authority.ts';
import type { AppDeps } from './app/deps.ts';
import { mintApiKey, parseApiKey } from './app/iam/api-key.ts';
import { BOOTSTRAP_PRINCIPAL_ID, type BootstrapOptions, bootstrapOperator } from './app/iam/bootstrap.ts';
import { mintPeppers, type PepperRing, parsePeppers } from './app/iam/pepper.ts';
import type { ControlPlaneFolders } from './settings.ts';

/**
 * What the first start makes and every start finds: the pepper, the bootstrap operator's key, the public files. Each
 * step may be cut by kill -9 and is completed by the next start; nothing is ever made twice.
 */
export function ensurePepper(folders: ControlPlaneFolders, rng: Rng): PepperRing {
	const present = readPrivateFile(folders.pepper);
	if (present !== undefined) return parsePeppers(present.toString('utf8'));
	const text = mintPeppers(rng);
	writePrivateFile(folders.pepper, Buffer.from(text), 'create', rng);
	return parsePeppers(text);
}

/** The key is on disk before the operator exists: a crash in between leaves a file that the next start makes valid. */
export async function ensureOperator(
	folders: ControlPlaneFolders,
	deps: Pick<AppDeps, 'store' | 'clock' | 'rng' | 'log'>,
	options: Omit<BootstrapOptions, 'minted'>,
): Promise<void> {
	const exists = await deps.store.read((tx) => tx.identities.getPrincipal(BOOTSTRAP_PRINCIPAL_ID));
	if (exists !== undefined) return;
	const text = readPrivateFile(folders.operatorKey)?.toString('utf8').trim();
	const key = text === undefined ? undefined : parseApiKey(text);
	const minted =
		text === undefined || key === undefined ? mintApiKey('uk', options.environment, deps.rng) : { key, text };
	if (key === undefined) {
		writePrivateFile(folders.operatorKey, Buffer.from(`${minted.text}\n`), 'replace', deps.rng);
	}
	await bootstrapOperator(deps, { ...options, minted });
	deps.log.info('the bootstrap operator was made; its key is in a file of mode 0600', { path: folders.operatorKey });
}

/** What anybody may know: the roots that clients trust, and the key that audit heads verify with. */
export async function writePublicFiles(folders: ControlPlaneFolders, authority: RunningAuthority): Promise<void> {
	await replace(folders.ca, rootsPem(decodeBundle(authority.bundle().bytes)).join(''));
	await replace(folders.auditKey, `${noteKeyText(noteKey(authority.auditKeyName, authority.auditSigner.spki()))}\n`);
}

async function replace(path: string, text: string): Promise<void> {
	await writeFile(`${path}.tmp`, text, { mode: 0o644 });
	await rename(`${path}.tmp`, path);
}
