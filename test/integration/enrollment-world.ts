import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, type DescMessage, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import { enroll, recover } from '../../agent/identity/enroll.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { Denylist } from '../../control-plane/app/certificates/denylist.ts';
import {
	issueReplicaCertificate,
	type ReplicaCredential,
} from '../../control-plane/app/certificates/replica-certificate.ts';
import {
	openCertificateAuthority,
	type RunningAuthority,
} from '../../control-plane/app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from '../../control-plane/app/deps.ts';
import { StreamGuard } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { Challenges } from '../../control-plane/app/enrollment/challenges.ts';
import type { EnrollmentDeps } from '../../control-plane/app/enrollment/deps.ts';
import { renewCertificate } from '../../control-plane/app/enrollment/renew.ts';
import { platformAccess } from '../../control-plane/app/iam/access.ts';
import { UNLIMITED } from '../../control-plane/app/iam/decide.ts';
import { mintPeppers, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { type CallContext, NO_LIMITS } from '../../control-plane/app/iam/principal.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { LOGIN_DEFAULT } from '../../control-plane/app/login/settings.ts';
import { PageTokens } from '../../control-plane/app/paging.ts';
import type { AgentSessions } from '../../control-plane/app/sessions/agent-sessions.ts';
import type { OutputStore } from '../../control-plane/app/tasks/output-store.ts';
import { Telemetry } from '../../control-plane/app/telemetry/telemetry.ts';
import { TerminalHub } from '../../control-plane/app/terminals/hub.ts';
import type { UnaryUseCase, UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { type RequestContext, systemContext } from '../../control-plane/context.ts';
import { type EnrollListenerLimits, EnrollServer } from '../../control-plane/enroll/server.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { CertificateRow } from '../../control-plane/store/port/certificates.ts';
import type { JoinTokenRow } from '../../control-plane/store/port/join-tokens.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { present } from '../../kit/assert.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import { encodeJoinToken, joinTokenPublicKey } from '../../pki/keys/join-token.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { NO_RECORDINGS } from '../fakes/no-recordings.ts';

/**
 * The enrollment half of a control plane, real down to TLS sockets, SQLite and key files. Only sessions are written
 * down instead of ended: the gateway's own tests end them.
 */
export const TRUST_DOMAIN = 'test.gpuaas.example';

/** The system's clock, which a test may set wrong for the control plane alone. */
export class ShiftedClock implements Clock {
	shiftMs = 0;
	now = () => systemClock.now() + this.shiftMs;
	monotonic = () => systemClock.monotonic() + this.shiftMs;
	setTimer = systemClock.setTimer;
	defer = systemClock.defer;
}

export class SessionsProbe implements AgentSessions {
	readonly closed: string[] = [];
	readonly closedSerials: string[] = [];
	readonly renewed: string[] = [];
	readonly trust: Uint8Array[] = [];
	connectedNodes: string[] = [];
	connected = () => this.connectedNodes;
	isConnected = (nodeId: string) => this.connectedNodes.includes(nodeId);
	offer = () => false;
	cancel = () => false;
	declinedBy = () => undefined;
	planTelemetry = () => false;
	queryHistory = () => false;
	openChannel = () => false;
	renewNow = (nodeId: string) => this.renewed.push(nodeId) > 0;
	broadcastTrust = (bundle: Uint8Array) => void this.trust.push(bundle);
	close = (nodeId: string) => this.closed.push(nodeId) > 0;
	closeSerial = (serial: string) => {
		this.closedSerials.push(serial);
		return 1;
	};
}

const NO_OUTPUT: OutputStore = {
	storedOffset: () => Promise.resolve(0),
	append: () => Promise.resolve(0),
	sync: () => Promise.resolve(),
	read: () => Promise.resolve([]),
	remove: () => Promise.resolve(),
	check: () => Promise.resolve(),
};

export interface WorldOptions {
	readonly limits?: Partial<AppLimits>;
	readonly listener?: Partial<EnrollListenerLimits>;
	readonly trustDomain?: string;
	/** Of the control plane; default: none. */
	readonly log?: Logger;
}

export class World implements AsyncDisposable {
	readonly folder = mkdtempSync(join(tmpdir(), 'gpuaas-enroll-'));
	readonly clock = new ShiftedClock();
	readonly sessions = new SessionsProbe();
	readonly trustDomain: string;
	readonly #options: WorldOptions;
	#running: Running | undefined;

	static async start(options: WorldOptions = {}): Promise<World> {
		const world = new World(options);
		await world.open();
		return world;
	}

	private constructor(options: WorldOptions) {
		this.#options = options;
		this.trustDomain = options.trustDomain ?? TRUST_DOMAIN;
	}

	get store(): Store {
		return this.#now().store;
	}

	get authority(): RunningAuthority {
		return this.#now().authority;
	}

	get deps(): EnrollmentDeps {
		return this.#now().deps;
	}

	get guard(): StreamGuard {
		return this.#now().guard;
	}

	get denylist(): Denylist {
		return this.#now().denylist;
	}

	get server(): EnrollServer {
		return this.#now().server;
	}

	get replica(): ReplicaCredential {
		return this.#now().replica;
	}

	get address(): string {
		return `127.0.0.1:${this.server.port}`;
	}

	/** Starts the control plane, as after a crash when it ran before. */
	async open(): Promise<void> {
		const { clock, sessions, folder, trustDomain } = this;
		const rng = systemRng;
		const log = this.#options.log ?? silentLogger;
		const store = await openStore(join(folder, 'store.db'), { clock, rng, log });
		const keys = new KeyFolder(join(folder, 'keys'), rng);
		const appendAudit = createAppendAudit({ clock, rng });
		const authority = await openCertificateAuthority({ store, keys, clock, rng, log, trustDomain, appendAudit });
		const bus = new InProcessBus();
		const deps: EnrollmentDeps = {
			clock,
			rng,
			log,
			store,
			bus,
			sessions,
			authority,
			output: NO_OUTPUT,
			terminals: new TerminalHub(systemClock),
			heads: { latest: () => '', covered: () => Promise.resolve(), assertSigning: () => {}, witness: () => {} },
			limits: { ...APP_LIMITS_DEFAULT, ...this.#options.limits },
			replicaId: 'replica-1',
			version: 'test',
			appendAudit,
			challenges: new Challenges(clock, rng),
			gateways: ['127.0.0.1:9443'],
		};
		const denylist = await Denylist.open(deps);
		const guard = new StreamGuard(deps, denylist);
		const replica = await issueReplicaCertificate(deps, authority, {
			replicaId: 'replica-1',
			dnsNames: ['localhost'],
			ipAddresses: ['127.0.0.1'],
		});
		const server = await EnrollServer.listen({
			deps,
			host: '127.0.0.1',
			port: 0,
			credential: replica,
			limits: this.#options.listener ?? {},
		});
		this.#running = { store, authority, deps, denylist, guard, replica, server };
	}

	/** Ends it without saying goodbye to anybody: what is in memory is lost. */
	async crash(): Promise<void> {
		const { server, guard, denylist, store } = this.#now();
		this.#running = undefined;
		guard[Symbol.dispose]();
		denylist[Symbol.dispose]();
		await server[Symbol.asyncDispose]();
		await store[Symbol.asyncDispose]();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#running !== undefined) await this.crash();
		rmSync(this.folder, { recursive: true, force: true });
	}

	async token(fields: Partial<JoinTokenRow> & { readonly pins?: readonly string[] } = {}): Promise<string> {
		const { pins = this.authority.pins(), ...row } = fields;
		const nowMs = this.clock.now();
		const id = row.id ?? `t-${uuidv7(nowMs, systemRng).slice(-12)}`;
		const secret = systemRng.bytes(32);
		const expiresAtMs = row.expiresAtMs ?? nowMs + 600_000;
		await this.store.unit((tx) =>
			tx.joinTokens.insert({
				state: 'unused',
				publicKey: joinTokenPublicKey(secret),
				nodeName: '',
				labels: {},
				expectedSerial: '',
				createdAtMs: nowMs,
				createdBy: 'test',
				nodeId: null,
				usedBySpkiSha256: null,
				...row,
				id,
				expiresAtMs,
			}),
		);
		return encodeJoinToken({ id, secret, caPins: pins, trustDomain: this.trustDomain, expiresAtMs });
	}

	/** `host` names the state folder; two calls with one name are one host. */
	enroll(token: string, host: Partial<Host> = {}): Promise<StoredIdentity> {
		const { name = 'host', serial = '', hostname = 'gpu-01', replace = false, address = this.address } = host;
		const { addresses = [address] } = host;
		return enroll({
			directory: join(this.folder, 'agents', name),
			token,
			addresses,
			facts: { hostname, serial, bootId: 'boot', architecture: 'x64', cpus: 2, memoryBytes: 1n },
			agentVersion: 'test',
			clock: systemClock,
			rng: systemRng,
			log: silentLogger,
			replace,
		});
	}

	/** As the agent does over the enrollment listener. */
	recover(identity: StoredIdentity): Promise<{ readonly serverTimeMs: number }> {
		const facts = { hostname: 'gpu-01' };
		return recover({ identity, facts, agentVersion: 'test', log: silentLogger });
	}

	ctx(): RequestContext {
		return systemContext('test', this.clock, silentLogger, 'test');
	}

	authorize(identity: StoredIdentity) {
		return this.guard.authorizeStream(this.ctx(), identity.credential().leafDer);
	}

	/** As the gateway serves `RenewCertificate`; stores the answer in `identity` unless it is to be lost. */
	async renew(identity: StoredIdentity, options: { readonly isLost?: boolean } = {}): Promise<void> {
		const peer = await this.authorize(identity);
		if (peer.kind === 'refused') throw new Error(`${peer.reason}: ${peer.message}`);
		const key = generateNodeKey();
		const answer = await renewCertificate(this.deps, this.ctx(), {
			nodeId: peer.nodeId,
			serial: peer.serial,
			csr: createCsr(key.signer),
			joinState: identity.joinState(),
		});
		if (options.isLost !== true) identity.storeRenewal({ ...answer, keyPem: key.privateKeyPem });
	}

	async node(id: string): Promise<NodeRow> {
		return present(await this.store.read((tx) => tx.nodes.get(id)), `node ${id}`);
	}

	tokenRow(id: string): Promise<JoinTokenRow | undefined> {
		return this.store.read((tx) => tx.joinTokens.get(id));
	}

	certificate(serial: string): Promise<CertificateRow | undefined> {
		return this.store.read((tx) => tx.certificates.get(serial));
	}

	/** An API call of a platform operator. */
	async call<I extends DescMessage, O extends DescMessage>(
		useCase: UnaryUseCase<I, O>,
		request: MessageInitShape<I>,
	): Promise<MessageShape<O>> {
		const { clock, rng, store, appendAudit } = this.deps;
		const refusals = new RefusalLog({ store, clock, appendAudit });
		const deps: UseCaseDeps = {
			...this.deps,
			pages: new PageTokens(rng.bytes(32)),
			refusals,
			login: LOGIN_DEFAULT,
			policies: new PolicyCache(),
			secrets: { ring: parsePeppers(mintPeppers(rng)), environment: 'test' },
			telemetry: new Telemetry({ ...this.deps, periodMs: 15_000 }),
			recordings: NO_RECORDINGS,
		};
		const actor = {
			kind: 'operator' as const,
			id: 'op',
			displayName: 'op',
			credentialId: '',
			credentialKind: 'none' as const,
			limits: NO_LIMITS,
			limit: UNLIMITED,
			access: platformAccess('platform.operator'),
			organizations: [],
			credentialExpiresAtMs: null,
			policyEpoch: 0,
		};
		const ctx: CallContext = { ...this.ctx(), actor, method: useCase.policy.name };
		const desc: I = useCase.method.input;
		try {
			return await useCase.run(deps, ctx, create(desc, request));
		} finally {
			await refusals[Symbol.asyncDispose]();
		}
	}

	/** Actions of the audit records so far, in order. */
	async audited(): Promise<readonly string[]> {
		const rows = await this.store.read((tx) => tx.audit.listUnchained(10_000));
		return rows.map(({ action, leaf }) => {
			const { result, reason } = JSON.parse(Buffer.from(leaf).toString('utf8')) as { result: string; reason: string };
			return result === 'ok' ? action : `${action} ${result} ${reason}`;
		});
	}

	#now(): Running {
		return present(this.#running, 'the control plane runs');
	}
}

interface Host {
	readonly name: string;
	readonly serial: string;
	readonly hostname: string;
	readonly replace: boolean;
	readonly address: string;
	/** In place of `address`: several, in turn. */
	readonly addresses: readonly string[];
}

interface Running {
	readonly store: Store;
	readonly authority: RunningAuthority;
	readonly deps: EnrollmentDeps;
	readonly denylist: Denylist;
	readonly guard: StreamGuard;
	readonly replica: ReplicaCredential;
	readonly server: EnrollServer;
}
