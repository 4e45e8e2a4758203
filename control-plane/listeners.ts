import { Registry } from '../kit/exposition.ts';
import type { Scope } from '../kit/scope.ts';
import { type ApiServer, createApiServer } from './api/server.ts';
import { Denylist } from './app/certificates/denylist.ts';
import type { ReplicaCredential } from './app/certificates/replica-certificate.ts';
import { StreamGuard } from './app/enrollment/authorize-stream.ts';
import { Challenges } from './app/enrollment/challenges.ts';
import { renewCertificate } from './app/enrollment/renew.ts';
import { ApiKeyAuthenticator } from './app/iam/authenticate.ts';
import { LINK_LIMITS_DEFAULT } from './app/sessions/limits.ts';
import { AgentAuditLimit } from './app/tasks/agent-audit-limit.ts';
import { recordFacts } from './app/tasks/record-facts.ts';
import { openUpload } from './app/tasks/upload-output.ts';
import { LatestTelemetry } from './app/telemetry/latest.ts';
import type { ControlPlaneConfig } from './config.ts';
import { EnrollServer } from './enroll/server.ts';
import type { LinkDeps } from './gateway/link-deps.ts';
import { type Gateway, startGateway } from './gateway/server.ts';
import type { App } from './open-app.ts';
import { OpsServer } from './ops/server.ts';
import { gatewayIdentity, opsAccess } from './parts.ts';

/** The four doors. Each gets the same certificate and swaps it when it is renewed. */
export interface Listeners {
	readonly api: ApiServer;
	readonly gateway: Gateway;
	readonly enroll: EnrollServer;
	readonly ops: OpsServer;
}

export async function startListeners(
	app: App,
	config: ControlPlaneConfig,
	first: ReplicaCredential,
	onSessionOpen: LinkDeps['onSessionOpen'],
	scope: Scope,
): Promise<Listeners> {
	const { deps, pepper, authority } = app;
	const { clock, rng, log, store } = deps;
	const telemetry = new LatestTelemetry({ clock });
	const registry = new Registry();
	const link = await linkDeps(app, config, telemetry, onSessionOpen, scope);
	const { host, port } = config.gateway;
	const gateway = scope.use(await startGateway(link, { host, port, identity: gatewayIdentity(first, authority) }));
	const gateways = config.gateway.advertise.length > 0 ? config.gateway.advertise : [`${host}:${gateway.port}`];
	const enroll = scope.use(
		await EnrollServer.listen({
			deps: { ...deps, challenges: new Challenges(clock, rng), gateways },
			host: config.enroll.host,
			port: config.enroll.port,
			credential: first,
		}),
	);
	const api = scope.use(
		await createApiServer({
			deps,
			tls: first,
			listen: config.api,
			authenticator: new ApiKeyAuthenticator({ store, clock, log, pepper, environment: config.core.environment }),
			registry,
		}),
	);
	const access = opsAccess(config, first);
	const ops = scope.use(await OpsServer.listen({ deps, registry, telemetry, listen: config.ops, access }));
	return { api, gateway, enroll, ops };
}

async function linkDeps(
	{ deps, registry }: App,
	config: ControlPlaneConfig,
	telemetry: LatestTelemetry,
	onSessionOpen: LinkDeps['onSessionOpen'],
	scope: Scope,
): Promise<LinkDeps> {
	const denylist = scope.use(await Denylist.open(deps));
	const guard = scope.use(new StreamGuard(deps, denylist));
	const recordDeps = { ...deps, agentAudit: new AgentAuditLimit(deps.clock) };
	return {
		app: deps,
		registry,
		limits: { ...LINK_LIMITS_DEFAULT, lostGraceMs: config.gateway.lostGraceMs },
		authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
		recordFacts: (ctx, from, facts) => recordFacts(recordDeps, ctx, from, facts),
		onSessionOpen,
		ingestTelemetry: telemetry.ingest,
		openUpload: (ctx, nodeId, hello) => openUpload(deps, ctx, nodeId, hello),
		renewCertificate: (ctx, { nodeId, serial }, { csr, joinState }) =>
			renewCertificate(deps, ctx, { nodeId, serial, csr, joinState }),
	};
}
