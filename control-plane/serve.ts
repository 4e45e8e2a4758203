import { aborted, Scope } from '../kit/scope.ts';
import { openFeatureGates } from './adapters/features/open.ts';
import {
	issueReplicaCertificate,
	keepReplicaCertificate,
	type ReplicaCredential,
} from './app/certificates/replica-certificate.ts';
import { replaceEnded } from './app/certificates/self-rotate.ts';
import { runAuthorityUpkeep } from './app/certificates/upkeep.ts';
import { loseTasksOfNode } from './app/tasks/lose-tasks.ts';
import { type Listeners, startListeners } from './listeners.ts';
import { type App, type ControlPlaneDeps, openApp } from './open-app.ts';
import { gatewayIdentity, healthPolicy } from './parts.ts';
import { AuthorityReconciler } from './reconcilers/authority.ts';
import { DispatchReconciler } from './reconcilers/dispatch.ts';
import { ExpiryReconciler } from './reconcilers/expiry.ts';
import { IamUpkeepReconciler } from './reconcilers/iam-upkeep.ts';
import { LeaseReconciler } from './reconcilers/leases.ts';
import { NodeHealthReconciler } from './reconcilers/node-health.ts';
import { OutboxReconciler } from './reconcilers/outbox.ts';
import { QuotaCounterReconciler } from './reconcilers/quota-counters.ts';
import { QuotaReconciler } from './reconcilers/quotas.ts';
import { RetentionReconciler } from './reconcilers/retention.ts';
import { TerminalReconciler } from './reconcilers/terminals.ts';
import { listenerNames } from './settings.ts';
import { DrainRunner } from './workflows/drain.ts';

/**
 * The control plane, top to bottom: what use cases stand on (open-app.ts), reconcilers, the four listeners
 * (listeners.ts), certificates. Everything belongs to one scope and is closed in reverse: listeners stop first, the
 * store last.
 */
export interface ServeOptions extends ControlPlaneDeps {
	readonly onReady: (addresses: ReadyAddresses) => void;
}

export interface ReadyAddresses {
	readonly api: string;
	readonly gateway: string;
	readonly enroll: string;
	readonly ops: string;
}

const LEASE_LOOK_MS = 1000;

export async function serve(options: ServeOptions, signal: AbortSignal): Promise<void> {
	const { config, log } = options;
	await using scope = new Scope((name, error) =>
		log.error('a part of the control plane failed', { part: name, error }),
	);
	const app = await openApp(options, scope);
	const { deps, authority } = app;
	const rotation = { ...deps, authority };
	// Its listeners would get no certificate, and nobody could reach it to say so.
	if (deps.limits.selfRotation.isOn) await replaceEnded(rotation);

	const dispatch = scope.use(new DispatchReconciler(deps));
	scope.use(new ExpiryReconciler(deps, { resync: (nodeId) => dispatch.resync(nodeId) }));
	scope.use(new OutboxReconciler(deps));
	scope.use(new RetentionReconciler(deps, { retentionMs: config.output.retentionMs }));
	scope.use(new TerminalReconciler(deps));
	scope.use(new DrainRunner(deps));
	scope.use(new IamUpkeepReconciler(deps));
	const features = await openFeatureGates(deps, deps.replicaId, scope);
	scope.use(new QuotaReconciler({ ...deps, features }));
	const quotaCounters = scope.use(new QuotaCounterReconciler(deps));

	const health = scope.use(
		new NodeHealthReconciler({
			...deps,
			quarantine: deps.limits.quarantine,
			policy: healthPolicy(config, log),
			fleetLabel: config.health.fleetLabel,
			startGraceMs: config.gateway.lostGraceMs,
		}),
	);

	const names = { replicaId: deps.replicaId, ...listenerNames(config) };
	const first = await issueReplicaCertificate(deps, authority, names);
	const onSessionOpen = (opened: Parameters<DispatchReconciler['onSessionOpen']>[0]) => dispatch.onSessionOpen(opened);
	const hooks = { onSessionOpen, health: health.monitor, quotaCounters };
	const listeners = await startListeners(app, config, first, hooks, scope);
	watchLeases(app, options, listeners, scope);
	const onCredential = (credential: ReplicaCredential) => {
		listeners.gateway.swapIdentity(gatewayIdentity(credential, authority));
		listeners.enroll.swap(credential);
		listeners.api.updateTls(credential);
		listeners.ops.updateTls(credential);
	};
	scope.run('replica certificate', (ended) =>
		keepReplicaCertificate({ deps, authority, names, first, onCredential, signal: ended }),
	);
	scope.run('authority upkeep', (ended) => runAuthorityUpkeep({ deps, authority, signal: ended }));
	if (deps.limits.selfRotation.isOn) scope.use(new AuthorityReconciler(rotation));

	const addresses = addressesOf(options, listeners);
	options.onReady(addresses);
	log.info('ready', { ...addresses });
	await aborted(signal);
	log.info('stopping');
}

function watchLeases({ deps }: App, { config }: ServeOptions, { gateway }: Listeners, scope: Scope): void {
	const leases = new LeaseReconciler({
		app: deps,
		appendAudit: deps.appendAudit,
		loseTasksOfNode,
		lostGraceMs: config.gateway.lostGraceMs,
		periodMs: LEASE_LOOK_MS,
		leaseTtlMs: () => gateway.link.leaseTtlMs,
	});
	leases.start();
	scope.defer(() => leases.stop());
}

function addressesOf({ config }: ServeOptions, { api, gateway, enroll, ops }: Listeners): ReadyAddresses {
	return {
		api: `https://${config.api.host}:${api.address.port}`,
		gateway: `${config.gateway.host}:${gateway.port}`,
		enroll: `${config.enroll.host}:${enroll.port}`,
		ops: `http://${config.ops.host}:${ops.address.port}`,
	};
}
