import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { openStore, storeName } from './open.ts';

const deps = { clock: systemClock, rng: systemRng, log: silentLogger };

/** All that a log line or a crash report could show of an error. */
function everythingOf(error: unknown): string {
	let text = '';
	for (let next = error; next instanceof Error; next = next.cause) {
		text += `${next.stack} ${JSON.stringify(next, Object.getOwnPropertyNames(next))}`;
	}
	return text;
}

test('a path opens SQLite, private to its owner', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'open-'));
	try {
		for (const url of [`${folder}/a.db`, `sqlite:${folder}/b.db`]) {
			await using store = await openStore(url, deps);
			expect(store.dialect).toBe('sqlite');
			await store.check();
		}
		for (const file of ['a.db', 'b.db']) expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});

test('anything else is refused by name', async () => {
	for (const url of ['', 'store.db', 'mysql://host/db', 'sqlite:relative.db', 'postgres://host:port/db']) {
		await expect(openStore(url, deps), url).rejects.toMatchObject({ reason: 'CONFIG_INVALID' });
	}
	await expect(openStore('/nowhere/at/all/store.db', deps)).rejects.toMatchObject({ reason: 'STORE_UNAVAILABLE' });
});

test('no password of a URL is shown, whatever goes wrong', async () => {
	const secret = 'hunter2-hunter2';
	const urls = [
		`postgres://gpuaas:${secret}@127.0.0.1:1/db`,
		`postgres://gpuaas:${secret}@host:port/db`,
		`postgres://gpuaas:${secret}@/db?host=/nowhere`,
		`postgres://gpuaas:${secret}@%/db`,
	];
	for (const url of urls) {
		const error = await openStore(url, deps).then(
			() => undefined,
			(thrown: unknown) => thrown,
		);
		expect(error, url).toBeInstanceOf(Error);
		expect(everythingOf(error), url).not.toContain(secret);
		expect(storeName(url)).not.toContain(secret);
	}
	expect(storeName(`postgres://gpuaas:${secret}@db.test/main?sslpassword=${secret}`)).toBe('postgres://db.test/main');
	expect(storeName('/var/lib/store.db')).toBe('sqlite:/var/lib/store.db');
});
