import { Registry } from '../kit/exposition.ts';
import type { Scope } from '../kit/scope.ts';
import { verifyDsseOnThread } from '../pki/verify/dsse.ts';
import type { HealthFact } from '../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { type ApiServer, createApiServer } from './api/server.ts';
import { Denylist } from './app/certificates/denylist.ts';
import type { ReplicaCredential } from './app/certificates/replica-certificate.ts';
import { StreamGuard } from './app/enrollment/authorize-stream.ts';
import { Challenges } from './app/enrollment/challenges.ts';
import { refusalRecords } from './app/enrollment/deps.ts';
import { renewCertificate } from './app/enrollment/renew.ts';
import type { HealthMonitor } from './app/health/monitor.ts';
import { HEALTH_RECORD_TOPIC } from './app/health/record-evidence.ts';
import { LeakCount } from './app/keys/leak-count.ts';
import { KeyUses } from './app/keys/uses.ts';
import { EDGE_HEADERS } from './app/login/edge-gate.ts';
import { LINK_LIMITS_DEFAULT } from './app/sessions/limits.ts';
import { AgentAuditLimit } from './app/tasks/agent-audit-limit.ts';
import { recordDeclined } from './app/tasks/record-declined.ts';
import { recordFacts } from './app/tasks/record-facts.ts';
import { openUpload } from './app/tasks/upload-output.ts';
import { terminalsOfAgents } from './app/terminals/agent-side.ts';
import type { ControlPlaneConfig } from './config.ts';
import { openDoors } from './doors.ts';
import { EnrollServer } from './enroll/server.ts';
import type { LinkDeps } from './gateway/link-deps.ts';
import { type Gateway, startGateway } from './gateway/server.ts';
import type { App } from './open-app.ts';
import { OpsServer } from './ops/server.ts';
import { gatewayIdentity, opsAccess } from './parts.ts';
import { startPushes } from './push.ts';
import type { QuotaCounterReconciler } from './reconcilers/quota-counters.ts';
import { directorySettings, scimSettings, webClientSettings } from './settings.ts';

/** The four doors. Each gets the same certificate and swaps it when it is renewed. */
export interface Listeners {
	readonly api: ApiServer;
	readonly gateway: Gateway;
	readonly enroll: EnrollServer;
	readonly ops: OpsServer;
}

/** Of reconcilers. */
export interface Hooks {
	readonly onSessionOpen: LinkDeps['onSessionOpen'];
	readonly health: HealthMonitor;
	readonly quotaCounters: Pick<QuotaCounterReconciler, 'corrected'>;
}

export async function startListeners(
	app: App,
	config: ControlPlaneConfig,
	first: ReplicaCredential,
	{ onSessionOpen, health, quotaCounters }: Hooks,
	scope: Scope,
): Promise<Listeners> {
	const { deps, authority } = app;
	const { clock, rng } = deps;
	const { telemetry } = deps;
	await telemetry.start();
	const registry = new Registry();
	registerQuotaDrift(registry, quotaCounters);
	registerLeaks(registry, scope.use(new LeakCount(deps.bus)));
	const link = await linkDeps(app, config, onSessionOpen, scope);
	const { host, port } = config.gateway;
	const gateway = scope.use(await startGateway(link, { host, port, identity: gatewayIdentity(first, authority) }));
	const gateways = config.gateway.advertise.length > 0 ? config.gateway.advertise : [`${host}:${gateway.port}`];
	const enroll = scope.use(
		await EnrollServer.listen({
			deps: { ...deps, challenges: new Challenges(clock, rng), gateways, refusalRecords: refusalRecords(clock) },
			host: config.enroll.host,
			port: config.enroll.port,
			credential: first,
		}),
	);
	const uses = scope.use(new KeyUses(deps));
	const people = { web: webClientSettings(config), directory: directorySettings(config), scim: scimSettings(config) };
	const { authenticator, auth } = openDoors({ ...app, config, registry, uses, ...people }, scope);
	const api = scope.use(
		await createApiServer({
			deps,
			tls: first,
			listen: config.api,
			...(config.edge.kind === 'none' ? {} : { edgeHeader: EDGE_HEADERS[config.edge.kind] }),
			authenticator,
			...(auth === undefined ? {} : { auth }),
			registry,
		}),
	);
	const access = opsAccess(config, first);
	const { nodeLabels, hostnameLabel } = config.ops;
	const ops = scope.use(
		await OpsServer.listen({
			...{ deps, registry, telemetry, health, listen: config.ops, access, nodeLabels },
			nodePages: { hostnameLabel },
		}),
	);
	await startPushes(deps, config, registry, scope);
	return { api, gateway, enroll, ops };
}

function registerQuotaDrift(registry: Registry, { corrected }: Hooks['quotaCounters']): void {
	registry.collect(
		{
			name: 'gpuaas_quota_drift_total',
			type: 'counter',
			help: 'Counters of quotas that this replica found wrong and corrected; each is in the audit log.',
			labelNames: ['kind'],
		},
		(emit) => {
			for (const [kind, count] of corrected) emit(count, kind);
		},
	);
}

function registerLeaks(registry: Registry, leaks: LeakCount): void {
	registry.collect(
		{
			name: 'gpuaas_api_keys_leaked_total',
			type: 'counter',
			help: 'API keys that were reported as leaked and are revoked, as this replica heard of it since it started; each is in the audit log, also where a crash came before the scrape.',
			labelNames: [],
		},
		(emit) => emit(leaks.total),
	);
}

async function linkDeps(
	{ deps, registry, recordings }: App,
	config: ControlPlaneConfig,
	onSessionOpen: LinkDeps['onSessionOpen'],
	scope: Scope,
): Promise<LinkDeps> {
	const denylist = scope.use(await Denylist.open(deps));
	const guard = scope.use(new StreamGuard(deps, denylist));
	const recordDeps = {
		...deps,
		agentAudit: new AgentAuditLimit(deps.clock),
		budget: deps.telemetry.facts,
		verifySignatures: verifyDsseOnThread,
		onHealthFacts: (nodeId: string, facts: readonly HealthFact[]) => {
			deps.telemetry.xids.count(nodeId, facts);
			deps.bus.publish({ topic: HEALTH_RECORD_TOPIC, key: nodeId });
		},
	};
	return {
		app: deps,
		registry,
		limits: { ...LINK_LIMITS_DEFAULT, lostGraceMs: config.gateway.lostGraceMs },
		authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
		recordFacts: (ctx, from, facts) => recordFacts(recordDeps, ctx, from, facts),
		onSessionOpen,
		recordDeclined: (ctx, from, declined) => recordDeclined(deps, ctx, from, declined),
		ingestTelemetry: deps.telemetry.ingest.ingest,
		historyAnswer: deps.telemetry.rings.answer,
		fastPlanOf: (nodeId) => deps.telemetry.fastPlans.planOf(nodeId),
		...terminalsOfAgents({ ...deps, recorders: recordings }),
		openUpload: (ctx, nodeId, hello) => openUpload(deps, ctx, nodeId, hello),
		renewCertificate: (ctx, { nodeId, serial }, { csr, joinState }) =>
			renewCertificate(deps, ctx, { nodeId, serial, csr, joinState }),
	};
}
