import { MemoryAnchor } from '../../control-plane/app/audit/anchor.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { Denylist } from '../../control-plane/app/certificates/denylist.ts';
import {
	openCertificateAuthority,
	type RunningAuthority,
} from '../../control-plane/app/certificates/running-authority.ts';
import { runAuthorityUpkeep } from '../../control-plane/app/certificates/upkeep.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from '../../control-plane/app/deps.ts';
import { StreamGuard } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { Challenges } from '../../control-plane/app/enrollment/challenges.ts';
import type { EnrollmentDeps } from '../../control-plane/app/enrollment/deps.ts';
import { renewCertificate } from '../../control-plane/app/enrollment/renew.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { PageTokens } from '../../control-plane/app/paging.ts';
import { LINK_LIMITS_DEFAULT } from '../../control-plane/app/sessions/limits.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import { loseTasksOfNode } from '../../control-plane/app/tasks/lose-tasks.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { openUpload } from '../../control-plane/app/tasks/upload-output.ts';
import type { UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { nodeContext } from '../../control-plane/gateway/context.ts';
import { AgentLink } from '../../control-plane/gateway/link.ts';
import type { LinkDeps } from '../../control-plane/gateway/link-deps.ts';
import { OutputUploads } from '../../control-plane/gateway/output.ts';
import { DispatchReconciler } from '../../control-plane/reconcilers/dispatch.ts';
import { ExpiryReconciler } from '../../control-plane/reconcilers/expiry.ts';
import { LeaseReconciler } from '../../control-plane/reconcilers/leases.ts';
import { OutboxReconciler } from '../../control-plane/reconcilers/outbox.ts';
import { SealReconciler } from '../../control-plane/reconcilers/seal.ts';
import { assert } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { chainOrigin } from '../../pki/verify/chain-head.ts';
import { SimKeyStore } from './world/keys.ts';
import { simLogger } from './world/log.ts';
import type { Network } from './world/network.ts';
import { SimOutputStore } from './world/output-store.ts';
import type { Scheduler, SimProcess } from './world/scheduler.ts';
import { SimStore, type StoreDisk } from './world/store.ts';

/**
 * The real control plane, composed as its main composes it but for the edges: use cases, session registry, link,
 * reconcilers and authority over the real SQLite store. It may be killed at any moment; what the next life gets is the
 * last commit, the key files and the synced output. Simulated: the network, the keys' randomness, the disks.
 */
export const TRUST_DOMAIN = 'sim.test';
const REPLICA_ID = 'replica-sim';
const RESTART_MS = 1500;

/** Shorter waits than in production, so that a run sees every one of them. */
const LIMITS: AppLimits = {
	...APP_LIMITS_DEFAULT,
	queueTimeoutDefaultMs: 240_000,
	taskTimeoutDefaultMs: 120_000,
	offerLeaseMs: 15_000,
	nodeCertificateTtlMs: 24 * 3_600_000,
};
const LINK_LIMITS = { ...LINK_LIMITS_DEFAULT, lostGraceMs: 60_000, tickMs: 1000 };
const RECONCILER_PERIOD_MS = 2000;

/** One life of the process. */
export interface Life {
	readonly process: SimProcess;
	readonly store: SimStore;
	readonly deps: UseCaseDeps & EnrollmentDeps & { readonly authority: RunningAuthority };
	readonly registry: SessionRegistry;
	readonly link: AgentLink;
}

export interface ControlPlaneOptions {
	readonly scheduler: Scheduler;
	readonly network: Network;
	readonly seed: string;
	readonly print: ((line: string) => void) | undefined;
}

export class SimControlPlane {
	readonly disk: StoreDisk = { fault: undefined, failsReads: false, crashIn: undefined, crashSide: 'before' };
	readonly clockOffset = { ms: 0 };
	readonly output = new SimOutputStore();
	/** The file of signed heads beside the database. */
	readonly anchor = new MemoryAnchor();
	readonly #options: ControlPlaneOptions;
	readonly #keys: SimKeyStore;
	readonly #onUp: ((life: Life) => void)[] = [];
	#image: Uint8Array | null = null;
	#process: SimProcess | undefined;
	#store: SimStore | undefined;
	#life: Life | undefined;
	#lives = 0;
	#tamper: (image: Uint8Array) => Uint8Array = (image) => image;

	constructor(options: ControlPlaneOptions) {
		this.#options = options;
		this.#keys = new SimKeyStore(`${options.seed}/keys`);
	}

	/** The life that serves; undefined while it is down or starting. */
	get life(): Life | undefined {
		return this.#life?.process.alive === true ? this.#life : undefined;
	}

	get lives(): number {
		return this.#lives;
	}

	/** Told of each life that begins to serve. */
	onUp(listener: (life: Life) => void): void {
		this.#onUp.push(listener);
	}

	/** The last commit, whether anybody serves it or not. */
	image(): Uint8Array | null {
		return this.#store?.snapshot() ?? this.#image;
	}

	/** Injects a bug: what is committed from here on is gone after the next crash. */
	forgetCommits(): void {
		this.#store?.forgetFromHere();
	}

	/** Injects a bug: somebody changes the disk while the process is down. */
	tamperAtCrash(change: (image: Uint8Array) => Uint8Array): void {
		this.#tamper = change;
	}

	start(): void {
		if (this.#process?.alive === true) return;
		this.#lives += 1;
		const { scheduler } = this.#options;
		const process = scheduler.process(`cp ${this.#lives}`, this.clockOffset);
		this.#process = process;
		scheduler.note(`cp ${this.#lives} starts`);
		this.#open(process).catch((error: unknown) => {
			scheduler.note(`cp ${this.#lives} did not start: ${error instanceof Error ? error.message : String(error)}`);
			if (process.alive) this.kill('it did not start');
		});
	}

	/** kill -9. It is started again by whoever supervises it. */
	kill(why: string): void {
		const process = this.#process;
		if (process?.alive !== true) return;
		this.#options.scheduler.note(`cp ${this.#lives} killed: ${why}`);
		process.kill();
		this.#life = undefined;
		this.#options.network.listen(undefined);
		if (this.#store !== undefined) this.#image = this.#tamper(this.#store.crash());
		this.#store = undefined;
		this.output.crash();
		this.#options.network.breakAllWires('reset');
		this.#options.scheduler.after(RESTART_MS, () => this.start());
	}

	async #open(process: SimProcess): Promise<void> {
		const { network, print } = this.#options;
		const store = new SimStore(this.#image, this.disk, process, () => this.kill('at a commit'));
		this.#store = store;
		const { clock, rng } = process;
		const log = simLogger(process, print);
		const bus = new InProcessBus();
		const registry = new SessionRegistry();
		const appendAudit = createAppendAudit({ clock, rng });
		const authority = await openCertificateAuthority({
			store,
			keys: this.#keys,
			clock,
			rng,
			log,
			appendAudit,
			trustDomain: TRUST_DOMAIN,
		});
		const heads = await SealReconciler.open({
			signer: authority.auditSigner,
			keyName: authority.auditKeyName,
			origin: chainOrigin(TRUST_DOMAIN),
			store,
			clock,
			log,
			bus,
			anchor: this.anchor,
			replicaId: REPLICA_ID,
		});
		const deps = {
			clock,
			rng,
			log,
			store,
			bus,
			sessions: registry,
			authority,
			output: this.output,
			heads,
			limits: LIMITS,
			replicaId: REPLICA_ID,
			version: '0.0.0',
			appendAudit,
			pages: new PageTokens(new Uint8Array(32)),
			refusals: new RefusalLog({ store, clock, appendAudit }),
			challenges: new Challenges(clock, rng),
			gateways: ['gateway.sim:9443'],
		};
		const denylist = await Denylist.open(deps);
		const guard = new StreamGuard(deps, denylist);
		const dispatch = new DispatchReconciler(deps);
		new ExpiryReconciler(deps, { periodMs: RECONCILER_PERIOD_MS, resync: (nodeId) => dispatch.resync(nodeId) });
		new OutboxReconciler(deps, { periodMs: RECONCILER_PERIOD_MS });
		const linkDeps: LinkDeps = {
			app: deps,
			registry,
			limits: LINK_LIMITS,
			authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
			recordFacts: (ctx, from, facts) => recordFacts(deps, ctx, from, facts),
			onSessionOpen: (opened) => dispatch.onSessionOpen(opened),
			ingestTelemetry: () => {},
			openUpload: (ctx, nodeId, hello) => openUpload(deps, ctx, nodeId, hello),
			renewCertificate: (ctx, peer, { csr, joinState }) =>
				renewCertificate(deps, ctx, { nodeId: peer.nodeId, serial: peer.serial, csr, joinState }),
		};
		const link = new AgentLink(linkDeps);
		link.start();
		new LeaseReconciler({
			app: deps,
			appendAudit,
			loseTasksOfNode: (app, ctx, nodeId) => loseTasksOfNode(app, ctx, nodeId),
			lostGraceMs: LINK_LIMITS.lostGraceMs,
			periodMs: RECONCILER_PERIOD_MS,
			leaseTtlMs: () => link.leaseTtlMs,
		}).start();
		void runAuthorityUpkeep({ deps, authority, signal: new AbortController().signal });
		if (!process.alive) return;
		const uploads = new OutputUploads(linkDeps);
		network.listen({
			process,
			connect: (stream) => link.accept(stream),
			uploadOutput: (stream) => uploads.accept(stream),
			renewCertificate: async (leafDer, request) => {
				const correlationId = uuidv7(clock.now(), rng);
				const anonymous = nodeContext(deps, 'RenewCertificate', 'sim', correlationId, undefined);
				const peer = await guard.authorizeStream(anonymous, leafDer);
				assert(peer.kind === 'accepted', `the renewal was refused: ${peer.kind === 'refused' ? peer.reason : ''}`);
				const ctx = nodeContext(deps, 'RenewCertificate', 'sim', correlationId, peer);
				return await linkDeps.renewCertificate(ctx, peer, request);
			},
		});
		this.#life = { process, store, deps, registry, link };
		this.#options.scheduler.note(`cp ${this.#lives} serves`);
		for (const listener of this.#onUp) listener(this.#life);
	}
}
