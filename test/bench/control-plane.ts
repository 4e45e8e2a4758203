import { join } from 'node:path';
import { AnchorFile } from '../../control-plane/adapters/audit-anchor/anchor-file.ts';
import { FileOutputStore } from '../../control-plane/adapters/object-store/file-output-store.ts';
import { FileRecordingStore } from '../../control-plane/adapters/object-store/file-recording-store.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { Denylist } from '../../control-plane/app/certificates/denylist.ts';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import {
	openCertificateAuthority,
	type RunningAuthority,
} from '../../control-plane/app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT } from '../../control-plane/app/deps.ts';
import { StreamGuard } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { renewCertificate } from '../../control-plane/app/enrollment/renew.ts';
import { mintPeppers, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { LOGIN_DEFAULT } from '../../control-plane/app/login/settings.ts';
import { PageTokens } from '../../control-plane/app/paging.ts';
import { LINK_LIMITS_DEFAULT } from '../../control-plane/app/sessions/limits.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { loseTasksOfNode } from '../../control-plane/app/tasks/lose-tasks.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { openUpload } from '../../control-plane/app/tasks/upload-output.ts';
import { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { terminalsOfAgents } from '../../control-plane/app/terminals/agent-side.ts';
import { TerminalHub } from '../../control-plane/app/terminals/hub.ts';
import type { UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import type { GatewayIdentity } from '../../control-plane/gateway/credentials.ts';
import { startGateway } from '../../control-plane/gateway/server.ts';
import { auditSigning, gatewayIdentity } from '../../control-plane/parts.ts';
import { DispatchReconciler } from '../../control-plane/reconcilers/dispatch.ts';
import { ExpiryReconciler } from '../../control-plane/reconcilers/expiry.ts';
import { LeaseReconciler } from '../../control-plane/reconcilers/leases.ts';
import { OutboxReconciler } from '../../control-plane/reconcilers/outbox.ts';
import { SealReconciler } from '../../control-plane/reconcilers/seal.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import type { Scope } from '../../kit/scope.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import { verifyDsseOnThread } from '../../pki/verify/dsse.ts';

/**
 * A control plane as control-plane/serve.ts composes it, with the defaults of production, without the listeners for
 * people: what a bench needs to reach from inside (enroll thousands of nodes, submit without HTTP) serve.ts keeps to
 * itself. `folder` may be that of one that was killed.
 */
export interface BenchControlPlane {
	readonly deps: UseCaseDeps;
	readonly authority: RunningAuthority;
	readonly identity: GatewayIdentity;
	readonly gateway: string;
	readonly sessions: SessionRegistry;
}

export interface ControlPlaneSettings {
	readonly folder: string;
	/** 0: any. */
	readonly port: number;
}

export async function startControlPlane(scope: Scope, settings: ControlPlaneSettings): Promise<BenchControlPlane> {
	const { folder, port } = settings;
	const { deps, parts } = await openDeps(scope, folder);
	const { authority, sessions } = parts;
	const denylist = scope.use(await Denylist.open(deps));
	const guard = scope.use(new StreamGuard(deps, denylist));
	const dispatch = scope.use(new DispatchReconciler(deps));
	scope.use(new ExpiryReconciler(deps, { resync: (nodeId) => dispatch.resync(nodeId) }));
	scope.use(new OutboxReconciler(deps));
	await deps.telemetry.start();
	const credential = await issueReplicaCertificate(deps, authority, {
		replicaId: REPLICA_ID,
		dnsNames: [],
		ipAddresses: [],
	});
	const identity = gatewayIdentity(credential, authority);
	const gateway = scope.use(
		await startGateway(
			{
				app: deps,
				registry: sessions,
				limits: LINK_LIMITS_DEFAULT,
				authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
				recordFacts: (ctx, from, facts) =>
					recordFacts({ ...deps, verifySignatures: verifyDsseOnThread }, ctx, from, facts),
				recordDeclined: async () => {},
				onSessionOpen: (opened) => dispatch.onSessionOpen(opened),
				ingestTelemetry: deps.telemetry.ingest.ingest,
				historyAnswer: deps.telemetry.rings.answer,
				fastPlanOf: () => undefined,
				...terminalsOfAgents(deps),
				openUpload: (ctx, nodeId, hello) => openUpload(deps, ctx, nodeId, hello),
				renewCertificate: (ctx, { nodeId, serial }, { csr, joinState }) =>
					renewCertificate(deps, ctx, { nodeId, serial, csr, joinState }),
			},
			{ host: '127.0.0.1', port, identity },
		),
	);
	const leases = new LeaseReconciler({
		app: deps,
		appendAudit: deps.appendAudit,
		loseTasksOfNode,
		lostGraceMs: LINK_LIMITS_DEFAULT.lostGraceMs,
		periodMs: 1000,
		leaseTtlMs: () => gateway.link.leaseTtlMs,
	});
	leases.start();
	scope.defer(() => leases.stop());
	return { deps, authority, identity, gateway: `127.0.0.1:${gateway.port}`, sessions };
}

const REPLICA_ID = 'replica-1';

interface Parts {
	readonly authority: RunningAuthority;
	readonly sessions: SessionRegistry;
}

async function openDeps(scope: Scope, folder: string): Promise<{ readonly deps: UseCaseDeps; readonly parts: Parts }> {
	const clock = systemClock;
	const rng = systemRng;
	const log = silentLogger;
	const store = scope.use(await openStore(join(folder, 'store.db'), { clock, rng, log }));
	const appendAudit = createAppendAudit({ clock, rng });
	const authority = await openCertificateAuthority({
		store,
		keys: new KeyFolder(join(folder, 'keys'), rng),
		clock,
		rng,
		trustDomain: 'bench.example',
		log,
		appendAudit,
	});
	const bus = new InProcessBus();
	const anchor = scope.use(await AnchorFile.open(join(folder, 'heads')));
	const heads = scope.use(
		await SealReconciler.open({
			...auditSigning(authority, 1),
			...{ store, clock, rng, log, appendAudit, bus, anchor, replicaId: REPLICA_ID },
		}),
	);
	const sessions = new SessionRegistry();
	const deps: UseCaseDeps = {
		clock,
		rng,
		log,
		store,
		bus,
		sessions,
		authority,
		recordings: new FileRecordingStore({ folder: join(folder, 'recordings'), freeBytesMin: 0 }),
		output: scope.use(new FileOutputStore({ folder: join(folder, 'output'), freeBytesMin: 0 })),
		terminals: new TerminalHub(clock),
		heads,
		limits: APP_LIMITS_DEFAULT,
		login: LOGIN_DEFAULT,
		replicaId: REPLICA_ID,
		version: 'bench',
		appendAudit,
		pages: new PageTokens(rng.bytes(32)),
		refusals: scope.use(new RefusalLog({ store, clock, appendAudit })),
		policies: new PolicyCache(),
		secrets: { ring: parsePeppers(mintPeppers(rng)), environment: 'bench' },
		telemetry: scope.use(new Telemetry({ store, bus, clock, rng, log, sessions, periodMs: 15_000 })),
	};
	return { deps, parts: { authority, sessions } };
}
