import { join } from 'node:path';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { rotateBySelf } from '../../control-plane/app/certificates/self-rotate.ts';
import { APP_LIMITS_DEFAULT } from '../../control-plane/app/deps.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { present } from '../../kit/assert.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import type { SignatureAlgorithm } from '../../pki/verify/signature.ts';

/**
 * One look of a control plane at its certificate authority, at a time of the test's, that kills itself (SIGKILL) at a
 * given point; a program of its own for authority-rotation.test.ts. Arguments: folder, ms that the clock is ahead, point:
 * `key N` before key N of the set, `unit` before the unit, `committed` after it, `none`. The last one prints the phase.
 */
const folder = present(process.argv[2], 'a folder');
const shiftMs = Number(present(process.argv[3], 'how far the clock is ahead'));
const [point, count = '0'] = present(process.argv[4], 'a point').split(' ');
let left = Number(count);

const die = () => process.kill(process.pid, 'SIGKILL');
const clock: Clock = { ...systemClock, now: () => systemClock.now() + shiftMs };
const deps = { clock, rng: systemRng, log: silentLogger };
const inner = new KeyFolder(join(folder, 'keys'), systemRng);
const keys = {
	load: (name: string) => inner.load(name),
	loadOrCreate(name: string, algorithm: SignatureAlgorithm) {
		if (point === 'key') {
			if (left === 0) die();
			left -= 1;
		}
		return inner.loadOrCreate(name, algorithm);
	},
};
const store = await openStore(join(folder, 'store.db'), deps);
const appendAudit = createAppendAudit(deps);
const trustDomain = 'test.gpuaas.example';
const authority = await openCertificateAuthority({ ...deps, store, keys, trustDomain, appendAudit });
const dying = new Proxy(store, {
	get(target, name) {
		const value: unknown = Reflect.get(target, name);
		if (typeof value !== 'function') return value;
		if (name !== 'unit') return value.bind(target);
		return async (work: Parameters<typeof target.unit>[0]) => {
			if (point === 'unit') die();
			const done = await target.unit(work);
			if (point === 'committed') die();
			return done;
		};
	},
});
const bus = new InProcessBus();
const limits = APP_LIMITS_DEFAULT;
await rotateBySelf({ ...deps, store: dying, bus, limits, appendAudit, authority });
process.stdout.write(authority.document().document.rotation?.phase ?? 'none');
await store[Symbol.asyncDispose]();
