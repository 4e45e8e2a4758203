import { join } from 'node:path';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import type { SignatureAlgorithm } from '../../pki/verify/signature.ts';

/**
 * A first start that kills itself (SIGKILL) at a given step; a program of its own for ca-rotation.test.ts.
 * Arguments: folder, step: the number of keys after which it dies; past the last key, before the document is stored.
 */
const folder = present(process.argv[2], 'a folder');
let left = Number(present(process.argv[3], 'a step'));

const die = () => process.kill(process.pid, 'SIGKILL');
const inner = new KeyFolder(join(folder, 'keys'), systemRng);
const keys = {
	load: (name: string) => inner.load(name),
	loadOrCreate(name: string, algorithm: SignatureAlgorithm) {
		if (left === 0) die();
		left -= 1;
		return inner.loadOrCreate(name, algorithm);
	},
};
const deps = { clock: systemClock, rng: systemRng, log: silentLogger };
const store = await openStore(join(folder, 'store.db'), deps);
const dying = new Proxy(store, {
	get(target, name) {
		if (name === 'unit') die();
		const value: unknown = Reflect.get(target, name);
		return typeof value === 'function' ? value.bind(target) : value;
	},
});
const appendAudit = createAppendAudit(deps);
await openCertificateAuthority({ ...deps, store: dying, keys, trustDomain: 'test.gpuaas.example', appendAudit });
