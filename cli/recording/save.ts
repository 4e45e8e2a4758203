import { access, open, rename, rm, writeFile } from 'node:fs/promises';
import { GpuaasError } from '../../kit/error.ts';

/**
 * A recording and its manifest as two files, both whole or neither. Without `force` nothing that is there is replaced.
 * Throws FILE_EXISTS.
 */
export async function savePair(
	recording: { readonly path: string; readonly bytes: AsyncIterable<Uint8Array> },
	manifest: { readonly path: string; readonly text: string },
	force: boolean,
): Promise<void> {
	for (const { path } of [recording, manifest]) if (!force && (await isThere(path))) throw exists(path);
	const partial = `${recording.path}.${process.pid}.part`;
	try {
		await using file = await open(partial, 'wx', 0o600);
		for await (const chunk of recording.bytes) await file.writeFile(chunk);
		await file.sync();
	} catch (error) {
		await rm(partial, { force: true });
		throw error;
	}
	// The manifest first: a recording is never there without it.
	await writeFile(`${manifest.path}.part`, manifest.text, { mode: 0o600, flush: true });
	await rename(`${manifest.path}.part`, manifest.path);
	await rename(partial, recording.path);
}

async function isThere(path: string): Promise<boolean> {
	return await access(path).then(
		() => true,
		() => false,
	);
}

function exists(path: string): GpuaasError {
	return new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'FILE_EXISTS',
		message: `${path} is there already and nothing was changed; to replace it add --force`,
	});
}
