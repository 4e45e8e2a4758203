import type { HeadAnchor } from '../../control-plane/app/audit/anchor.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { Denylist } from '../../control-plane/app/certificates/denylist.ts';
import { SELF_ROTATION_DEFAULT } from '../../control-plane/app/certificates/rotation-plan.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { runAuthorityUpkeep } from '../../control-plane/app/certificates/upkeep.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from '../../control-plane/app/deps.ts';
import { refusalError, StreamGuard } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { Challenges } from '../../control-plane/app/enrollment/challenges.ts';
import { renewCertificate } from '../../control-plane/app/enrollment/renew.ts';
import { mintPeppers, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { LOGIN_DEFAULT } from '../../control-plane/app/login/settings.ts';
import { PageTokens } from '../../control-plane/app/paging.ts';
import { LINK_LIMITS_DEFAULT } from '../../control-plane/app/sessions/limits.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { loseTasksOfNode } from '../../control-plane/app/tasks/lose-tasks.ts';
import { recordDeclined } from '../../control-plane/app/tasks/record-declined.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { openUpload } from '../../control-plane/app/tasks/upload-output.ts';
import { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { terminalsOfAgents } from '../../control-plane/app/terminals/agent-side.ts';
import { TerminalHub } from '../../control-plane/app/terminals/hub.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { Channels } from '../../control-plane/gateway/channel.ts';
import { nodeContext } from '../../control-plane/gateway/context.ts';
import { AgentLink } from '../../control-plane/gateway/link.ts';
import type { LinkDeps } from '../../control-plane/gateway/link-deps.ts';
import { OutputUploads } from '../../control-plane/gateway/output.ts';
import { AuthorityReconciler } from '../../control-plane/reconcilers/authority.ts';
import { DispatchReconciler } from '../../control-plane/reconcilers/dispatch.ts';
import { ExpiryReconciler } from '../../control-plane/reconcilers/expiry.ts';
import { LeaseReconciler } from '../../control-plane/reconcilers/leases.ts';
import { OutboxReconciler } from '../../control-plane/reconcilers/outbox.ts';
import { SealReconciler } from '../../control-plane/reconcilers/seal.ts';
import { DrainRunner } from '../../control-plane/workflows/drain.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Scope } from '../../kit/scope.ts';
import { chainOrigin } from '../../pki/verify/chain-head.ts';
import { NO_RECORDINGS } from '../fakes/no-recordings.ts';
import type { SimKeyStore } from './world/keys.ts';
import type { GatewayEndpoint } from './world/network.ts';
import type { SimOutputStore } from './world/output-store.ts';
import type { SimProcess } from './world/scheduler.ts';
import type { SimStore } from './world/store.ts';

/**
 * The control plane put together as control-plane/serve.ts does it, without its listeners: every part is the real one,
 * on the ports that a process of the simulation has. Waits are shorter, so that a run sees every one of them.
 */
export const TRUST_DOMAIN = 'sim.test';
const REPLICA_ID = 'replica-sim';

const LIMITS: AppLimits = {
	...APP_LIMITS_DEFAULT,
	queueTimeoutDefaultMs: 240_000,
	taskTimeoutDefaultMs: 120_000,
	offerLeaseMs: 15_000,
};
/** Its chaos makes nodes reconnect more often than any honest one does. */
const LINK_LIMITS = { ...LINK_LIMITS_DEFAULT, lostGraceMs: 60_000, tickMs: 1000, sessionsBurstPerNode: 100_000 };
const RECONCILER_PERIOD_MS = 2000;
/** A run is shorter than any life of a CA: where it is to see rotations they are always due, one after the other. */
const ALWAYS_DUE = { ...SELF_ROTATION_DEFAULT, beforeMs: 90 * 24 * 3_600_000, settleMs: 8000 };

export interface Ports {
	readonly process: SimProcess;
	readonly store: SimStore;
	readonly keys: SimKeyStore;
	readonly output: SimOutputStore;
	readonly anchor: HeadAnchor;
	readonly rotates: boolean;
	readonly log: Logger;
}

export type Composition = Awaited<ReturnType<typeof compose>>;

export async function compose(ports: Ports) {
	const { process } = ports;
	const scope = new Scope((name, error) =>
		ports.log.error('a part of the control plane failed', { part: name, error }),
	);
	const { deps, authority, registry } = await composeDeps(ports, scope);
	const { store } = deps;
	const denylist = scope.use(await Denylist.open(deps));
	const guard = scope.use(new StreamGuard(deps, denylist));
	const dispatch = scope.use(new DispatchReconciler(deps));
	const periodMs = RECONCILER_PERIOD_MS;
	scope.use(new ExpiryReconciler(deps, { periodMs, resync: (nodeId) => dispatch.resync(nodeId) }));
	scope.use(new OutboxReconciler(deps, { periodMs }));
	scope.use(new DrainRunner(deps));
	scope.use(new AuthorityReconciler({ ...deps, authority }, { periodMs }));
	const linkDeps: LinkDeps = {
		app: deps,
		registry,
		limits: LINK_LIMITS,
		authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
		recordFacts: (ctx, from, facts) => recordFacts(deps, ctx, from, facts),
		recordDeclined: (ctx, from, declined) => recordDeclined(deps, ctx, from, declined),
		onSessionOpen: (opened) => dispatch.onSessionOpen(opened),
		ingestTelemetry: () => {},
		historyAnswer: () => {},
		fastPlanOf: () => undefined,
		...terminalsOfAgents(deps),
		openUpload: (ctx, nodeId, hello) => openUpload(deps, ctx, nodeId, hello),
		renewCertificate: (ctx, { nodeId, serial }, { csr, joinState }) =>
			renewCertificate(deps, ctx, { nodeId, serial, csr, joinState }),
	};
	const link = new AgentLink(linkDeps);
	link.start();
	const { appendAudit } = deps;
	const { lostGraceMs } = LINK_LIMITS;
	const leaseTtlMs = () => link.leaseTtlMs;
	const leases = new LeaseReconciler({ app: deps, appendAudit, loseTasksOfNode, lostGraceMs, periodMs, leaseTtlMs });
	leases.start();
	scope.defer(() => leases.stop());
	scope.run('authority upkeep', (signal) => runAuthorityUpkeep({ deps, authority, signal }));
	return { process, store, deps, registry, link, scope, endpoint: endpointOf(process, linkDeps, link) };
}

async function composeDeps(ports: Ports, scope: Scope) {
	const { process, store, keys, output, anchor, log, rotates } = ports;
	const limits = rotates ? { ...LIMITS, selfRotation: ALWAYS_DUE } : LIMITS;
	const { clock, rng } = process;
	const bus = new InProcessBus();
	const registry = new SessionRegistry();
	const appendAudit = createAppendAudit({ clock, rng });
	const trustDomain = TRUST_DOMAIN;
	const authority = await openCertificateAuthority({ store, keys, clock, rng, log, appendAudit, trustDomain });
	const heads = await SealReconciler.open({
		signer: authority.auditSigner,
		keyName: authority.auditKeyName,
		origin: chainOrigin(trustDomain),
		store,
		clock,
		rng,
		log,
		appendAudit,
		bus,
		anchor,
		replicaId: REPLICA_ID,
	});
	const terminals = new TerminalHub(clock);
	const app = { clock, rng, log, store, bus, sessions: registry, authority, output, terminals, heads, limits };
	const deps = {
		...app,
		replicaId: REPLICA_ID,
		version: '0.0.0',
		appendAudit,
		pages: new PageTokens(new Uint8Array(32)),
		refusals: scope.use(new RefusalLog({ store, clock, appendAudit })),
		login: LOGIN_DEFAULT,
		policies: new PolicyCache(),
		recordings: NO_RECORDINGS,
		secrets: { ring: parsePeppers(mintPeppers(rng)), environment: 'sim' },
		telemetry: new Telemetry({ ...app, periodMs: LINK_LIMITS.telemetryPeriodMs }),
		challenges: new Challenges(clock, rng),
		gateways: ['gateway.sim:9443'],
	};
	scope.use(heads);
	return { deps, authority, registry };
}

/** What control-plane/gateway/server.ts serves over gRPC. */
function endpointOf(process: SimProcess, linkDeps: LinkDeps, link: AgentLink): GatewayEndpoint {
	const { app } = linkDeps;
	const uploads = new OutputUploads(linkDeps);
	const channels = new Channels(linkDeps);
	return {
		process,
		connect: (stream) => link.accept(stream),
		uploadOutput: (stream) => uploads.accept(stream),
		channel: (stream) => channels.accept(stream),
		renewCertificate: async (leafDer, request) => {
			const correlationId = uuidv7(app.clock.now(), app.rng);
			const anonymous = nodeContext(app, 'RenewCertificate', 'sim', correlationId, undefined);
			const peer = await linkDeps.authorizeStream(anonymous, leafDer);
			if (peer.kind === 'refused') throw refusalError(peer);
			const ctx = nodeContext(app, 'RenewCertificate', 'sim', correlationId, peer);
			return await linkDeps.renewCertificate(ctx, peer, request);
		},
	};
}
