import { mkdir } from 'node:fs/promises';
import type { Clock } from '../kit/clock.ts';
import { type Rng, uuidv7 } from '../kit/ids.ts';
import type { Logger } from '../kit/log.ts';
import type { Scope } from '../kit/scope.ts';
import { KeyFolder } from '../pki/keys/file.ts';
import { AnchorFile } from './adapters/audit-anchor/anchor-file.ts';
import { readLogNumber } from './adapters/audit-anchor/log-number.ts';
import { FileOutputStore } from './adapters/object-store/file-output-store.ts';
import { createAppendAudit } from './app/audit/append.ts';
import { openCertificateAuthority, type RunningAuthority } from './app/certificates/running-authority.ts';
import type { PepperRing } from './app/iam/pepper.ts';
import { PolicyCache } from './app/iam/policy-view.ts';
import { RefusalLog } from './app/iam/refusals.ts';
import { PageTokens } from './app/paging.ts';
import type { Recordings } from './app/recordings/recordings.ts';
import { LINK_LIMITS_DEFAULT } from './app/sessions/limits.ts';
import { SessionRegistry } from './app/sessions/registry.ts';
import { Telemetry } from './app/telemetry/telemetry.ts';
import { TerminalHub } from './app/terminals/hub.ts';
import type { UseCaseDeps } from './app/use-case.ts';
import { InProcessBus } from './bus/in-process.ts';
import type { ControlPlaneConfig } from './config.ts';
import { ensureOperator, ensurePepper, writePublicFiles } from './first-start.ts';
import { appLimits, auditSigning, healthPolicy, loginSettings } from './parts.ts';
import { SealReconciler } from './reconcilers/seal.ts';
import { recordingStore, recordTerminals } from './record-terminals.ts';
import { foldersOf } from './settings.ts';
import { lockDatabase } from './store/database-lock.ts';
import { openStore } from './store/open.ts';
import { RollupFile } from './store/sqlite/rollups.ts';

export interface ControlPlaneDeps {
	readonly config: ControlPlaneConfig;
	readonly version: string;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
}

/** What every listener and reconciler stands on. */
export interface App {
	readonly deps: UseCaseDeps;
	readonly registry: SessionRegistry;
	readonly authority: RunningAuthority;
	readonly pepper: PepperRing;
	readonly recordings: Recordings;
}

/** Store, then authority, then audit, then what use cases need; the first start makes what isn't there. */
export async function openApp(options: ControlPlaneDeps, scope: Scope): Promise<App> {
	const { config, version, clock, rng, log } = options;
	const folders = foldersOf(config);
	await mkdir(config.core.data, { recursive: true, mode: 0o700 });
	scope.defer(lockDatabase(folders.storeUrl, uuidv7(clock.now(), rng)));
	const store = scope.use(await openStore(folders.storeUrl, { clock, rng, log }));
	const appendAudit = createAppendAudit({ clock, rng });
	const keys = new KeyFolder(folders.keys, rng);
	const { trustDomain, replicaId } = config.core;
	const authority = await openCertificateAuthority({ store, keys, clock, rng, trustDomain, log, appendAudit });
	const pepper = ensurePepper(folders, rng);
	const bus = new InProcessBus();
	const signing = auditSigning(authority, await readLogNumber(folders.heads));
	const anchor = scope.use(await AnchorFile.open(folders.heads));
	const heads = scope.use(
		await SealReconciler.open({ ...signing, store, clock, rng, log, appendAudit, bus, anchor, replicaId }),
	);
	const registry = new SessionRegistry();
	const output = scope.use(new FileOutputStore({ folder: folders.output, freeBytesMin: config.output.freeFloorBytes }));
	const rollups = scope.use(new RollupFile({ path: folders.history, onBroken: brokenHistory(log) }));
	const { historyRetentionMs: retentionMs, historyMaxBytes: bytesMax } = config.telemetry;
	const telemetry = scope.use(
		new Telemetry({
			...{ store, bus, clock, rng, log, sessions: registry, periodMs: LINK_LIMITS_DEFAULT.telemetryPeriodMs },
			history: { rollups, retentionMs, bytesMax },
		}),
	);
	const deps: UseCaseDeps = {
		clock,
		rng,
		log,
		store,
		bus,
		sessions: registry,
		authority,
		output,
		terminals: new TerminalHub(clock),
		heads,
		limits: appLimits(config),
		login: loginSettings(config),
		replicaId,
		version,
		appendAudit,
		pages: new PageTokens(pepper.derive('page tokens')),
		refusals: scope.use(new RefusalLog({ store, clock, appendAudit })),
		policies: new PolicyCache(),
		secrets: { ring: pepper, environment: config.core.environment },
		telemetry,
		healthPolicy: healthPolicy(config),
		recordings: recordingStore(config),
	};
	await writePublicFiles(folders, authority);
	await ensureOperator(folders, deps, { pepper, environment: config.core.environment, appendAudit });
	const recordings = recordTerminals({ ...deps, signer: authority.auditSigner }, config.recordings, scope);
	return { deps, registry, authority, pepper, recordings };
}

function brokenHistory(log: Logger) {
	return (asidePath: string, error: unknown) =>
		log.warn('the telemetry history could not be read: it was moved aside and begins anew', { asidePath, error });
}
