import { userInfo } from 'node:os';
import { GpuaasError } from '../kit/error.ts';
import { uuidv7 } from '../kit/ids.ts';
import { Scope } from '../kit/scope.ts';
import { KeyFolder } from '../pki/keys/file.ts';
import { createAppendAudit } from './app/audit/append.ts';
import { openCertificateAuthority } from './app/certificates/running-authority.ts';
import { replaceUnusable } from './app/certificates/self-rotate.ts';
import { InProcessBus } from './bus/in-process.ts';
import { systemContext } from './context.ts';
import type { ControlPlaneDeps } from './open-app.ts';
import { appLimits } from './parts.ts';
import { foldersOf } from './settings.ts';
import { openStore } from './store/open.ts';

/**
 * `main.ts renew-authority`, behind `gpuaas ca renew`: for who may read the keys folder of this host, when the issuing CAs
 * have ended and with them the certificate of the API. A replica that runs on the same store takes the new ones up.
 */
export interface RenewedAuthority {
	readonly phase: string;
	/** Of the new issuing CAs. */
	readonly notAfter: string;
}

export async function renewAuthority(options: ControlPlaneDeps): Promise<RenewedAuthority> {
	const { config, clock, rng, log } = options;
	const folders = foldersOf(config);
	await using scope = new Scope((name, error) => log.error('a part failed', { part: name, error }));
	const store = scope.use(await openStore(folders.storeUrl, { clock, rng, log }));
	const isThere = (await store.read((tx) => tx.authority.get())) !== undefined;
	if (!isThere) throw refused('no control plane was ever started on this store; check --data and --store');
	const appendAudit = createAppendAudit({ clock, rng });
	const keys = new KeyFolder(folders.keys, rng);
	const { trustDomain } = config.core;
	const authority = await openCertificateAuthority({ store, keys, clock, rng, trustDomain, log, appendAudit });
	const deps = { clock, rng, log, store, bus: new InProcessBus(), limits: appLimits(config), appendAudit, authority };
	const { username } = userInfo();
	const system = systemContext('renew-authority', clock, log, uuidv7(clock.now(), rng));
	const ctx = { ...system, actor: { ...system.actor, kind: 'operator', displayName: username } as const };
	const renewed = await replaceUnusable(deps, ctx);
	const { node, replica } = authority.issuersEndMs();
	const notAfter = new Date(Math.min(node, replica)).toISOString();
	if (renewed === undefined) {
		throw refused(`the issuing CAs live until ${notAfter}: rotate them, which cuts nobody off: gpuaas ca status`);
	}
	return { phase: authority.document().document.rotation?.phase ?? '', notAfter };
}

function refused(message: string): GpuaasError {
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason: 'ROTATION_STEP_INVALID', message });
}
