import { mkdir } from 'node:fs/promises';
import type { Clock } from '../kit/clock.ts';
import { Registry } from '../kit/exposition.ts';
import type { Rng } from '../kit/ids.ts';
import type { Logger } from '../kit/log.ts';
import { aborted, Scope } from '../kit/scope.ts';
import { KeyFolder } from '../pki/keys/file.ts';
import { AnchorFile } from './adapters/audit-anchor/anchor-file.ts';
import { FileOutputStore } from './adapters/object-store/file-output-store.ts';
import { createApiServer } from './api/server.ts';
import { createAppendAudit } from './app/audit/append.ts';
import { Denylist } from './app/certificates/denylist.ts';
import {
	issueReplicaCertificate,
	keepReplicaCertificate,
	type ReplicaCredential,
} from './app/certificates/replica-certificate.ts';
import { openCertificateAuthority } from './app/certificates/running-authority.ts';
import { runAuthorityUpkeep } from './app/certificates/upkeep.ts';
import type { AppDeps } from './app/deps.ts';
import { StreamGuard } from './app/enrollment/authorize-stream.ts';
import { Challenges } from './app/enrollment/challenges.ts';
import { renewCertificate } from './app/enrollment/renew.ts';
import { ApiKeyAuthenticator } from './app/iam/authenticate.ts';
import { RefusalLog } from './app/iam/refusals.ts';
import { PageTokens } from './app/paging.ts';
import { LINK_LIMITS_DEFAULT } from './app/sessions/limits.ts';
import { SessionRegistry } from './app/sessions/registry.ts';
import { loseTasksOfNode } from './app/tasks/lose-tasks.ts';
import { recordFacts } from './app/tasks/record-facts.ts';
import { openUpload } from './app/tasks/upload-output.ts';
import { LatestTelemetry } from './app/telemetry/latest.ts';
import { InProcessBus } from './bus/in-process.ts';
import type { ControlPlaneConfig } from './config.ts';
import { EnrollServer } from './enroll/server.ts';
import { ensureOperator, ensurePepper, writePublicFiles } from './first-start.ts';
import { startGateway } from './gateway/server.ts';
import { OpsServer } from './ops/server.ts';
import { appLimits, auditSigning, gatewayIdentity, opsAccess } from './parts.ts';
import { DispatchReconciler } from './reconcilers/dispatch.ts';
import { ExpiryReconciler } from './reconcilers/expiry.ts';
import { LeaseReconciler } from './reconcilers/leases.ts';
import { OutboxReconciler } from './reconcilers/outbox.ts';
import { SealReconciler } from './reconcilers/seal.ts';
import { foldersOf, listenerNames } from './settings.ts';
import { openStore } from './store/open.ts';
import { DrainRunner } from './workflows/drain.ts';

/**
 * The control plane, top to bottom: store, authority, audit, sessions, use cases, reconcilers, then the four listeners.
 * Everything belongs to one scope and is closed in reverse: listeners stop first, the store last.
 */
export interface ControlPlaneDeps {
	readonly config: ControlPlaneConfig;
	readonly version: string;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly onReady: (addresses: ReadyAddresses) => void;
}

export interface ReadyAddresses {
	readonly api: string;
	readonly gateway: string;
	readonly enroll: string;
	readonly ops: string;
}

const LEASE_LOOK_MS = 1000;

export async function serve(options: ControlPlaneDeps, signal: AbortSignal): Promise<void> {
	const { config, version, clock, rng, log } = options;
	const folders = foldersOf(config);
	await mkdir(config.core.data, { recursive: true, mode: 0o700 });
	await using scope = new Scope((name, error) =>
		log.error('a part of the control plane failed', { part: name, error }),
	);

	const store = scope.use(await openStore(folders.storeUrl, { clock, rng, log }));
	const appendAudit = createAppendAudit({ clock, rng });
	const keys = new KeyFolder(folders.keys, rng);
	const { trustDomain, replicaId } = config.core;
	const authority = await openCertificateAuthority({ store, keys, clock, rng, trustDomain, log, appendAudit });
	const pepper = ensurePepper(folders, rng);
	const bus = new InProcessBus();
	const anchor = scope.use(await AnchorFile.open(folders.heads));
	const heads = scope.use(
		await SealReconciler.open({ ...auditSigning(authority), store, clock, log, bus, anchor, replicaId }),
	);
	const registry = new SessionRegistry();
	const output = scope.use(new FileOutputStore({ folder: folders.output, freeBytesMin: config.output.freeFloorBytes }));
	const app: AppDeps = {
		clock,
		rng,
		log,
		store,
		bus,
		sessions: registry,
		authority,
		output,
		heads,
		limits: appLimits(config),
		replicaId,
		version,
	};
	const deps = {
		...app,
		appendAudit,
		pages: new PageTokens(pepper.derive('page tokens')),
		refusals: scope.use(new RefusalLog({ store, clock, appendAudit })),
	};
	await writePublicFiles(folders, authority);
	await ensureOperator(folders, deps, { pepper, environment: config.core.environment, appendAudit });

	const denylist = scope.use(await Denylist.open(app));
	const guard = scope.use(new StreamGuard(deps, denylist));
	const dispatch = scope.use(new DispatchReconciler(app));
	scope.use(new ExpiryReconciler(app, { resync: (nodeId) => dispatch.resync(nodeId) }));
	scope.use(new OutboxReconciler(app));
	scope.use(new DrainRunner(deps));
	const telemetry = new LatestTelemetry({ clock });
	const metrics = new Registry();

	const names = { replicaId, ...listenerNames(config) };
	const first = await issueReplicaCertificate(deps, authority, names);
	const gateway = scope.use(
		await startGateway(
			{
				app,
				registry,
				limits: { ...LINK_LIMITS_DEFAULT, lostGraceMs: config.gateway.lostGraceMs },
				authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
				recordFacts: (ctx, from, facts) => recordFacts(deps, ctx, from, facts),
				onSessionOpen: (opened) => dispatch.onSessionOpen(opened),
				ingestTelemetry: telemetry.ingest,
				openUpload: (ctx, nodeId, hello) => openUpload(app, ctx, nodeId, hello),
				renewCertificate: (ctx, { nodeId, serial }, { csr, joinState }) =>
					renewCertificate(deps, ctx, { nodeId, serial, csr, joinState }),
			},
			{ host: config.gateway.host, port: config.gateway.port, identity: gatewayIdentity(first, authority) },
		),
	);
	const gateways =
		config.gateway.advertise.length > 0 ? config.gateway.advertise : [`${config.gateway.host}:${gateway.port}`];
	const enrollment = { ...deps, challenges: new Challenges(clock, rng), gateways };
	const enroll = scope.use(
		await EnrollServer.listen({
			deps: enrollment,
			host: config.enroll.host,
			port: config.enroll.port,
			credential: first,
		}),
	);
	const api = scope.use(
		await createApiServer({
			deps,
			tls: first,
			listen: { host: config.api.host, port: config.api.port },
			authenticator: new ApiKeyAuthenticator({ store, clock, log, pepper, environment: config.core.environment }),
			registry: metrics,
		}),
	);
	const ops = scope.use(
		await OpsServer.listen({
			deps: app,
			registry: metrics,
			telemetry,
			listen: config.ops,
			access: opsAccess(config, first),
		}),
	);

	const leases = new LeaseReconciler({
		app,
		appendAudit,
		loseTasksOfNode,
		lostGraceMs: config.gateway.lostGraceMs,
		periodMs: LEASE_LOOK_MS,
		leaseTtlMs: () => gateway.link.leaseTtlMs,
	});
	leases.start();
	scope.defer(() => leases.stop());
	const onCredential = (credential: ReplicaCredential) => {
		gateway.swapIdentity(gatewayIdentity(credential, authority));
		enroll.swap(credential);
		api.updateTls(credential);
	};
	scope.run('replica certificate', (ended) =>
		keepReplicaCertificate({ deps, authority, names, first, onCredential, signal: ended }),
	);
	scope.run('authority upkeep', (ended) => runAuthorityUpkeep({ deps, authority, signal: ended }));

	options.onReady({
		api: `https://${config.api.host}:${api.address.port}`,
		gateway: `${config.gateway.host}:${gateway.port}`,
		enroll: `${config.enroll.host}:${enroll.port}`,
		ops: `http://${config.ops.host}:${ops.address.port}`,
	});
	log.info('ready', { api: api.address.port, gateway: gateway.port, enroll: enroll.port, ops: ops.address.port });
	await aborted(signal);
	log.info('stopping');
}
