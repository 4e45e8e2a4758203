import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import type { CommandSink } from '../../agent/control/command-sink.ts';
import type { ControlDeps } from '../../agent/control/control-deps.ts';
import { CONTROL_LIMITS_DEFAULT } from '../../agent/control/control-deps.ts';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { LinkTarget, LinkTransport } from '../../agent/control/link-transport.ts';
import type { Control } from '../../agent/control/session.ts';
import { Control as ControlClass } from '../../agent/control/session.ts';
import { IdentityFolder, STATE_FORMAT } from '../../agent/identity/state-file.ts';
import { StoredIdentity, storedCredential, toBase64 } from '../../agent/identity/stored-identity.ts';
import { MemoryJournal } from '../../agent/journal/memory.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import type { AppendAudit } from '../../control-plane/app/audit/event.ts';
import type { HeadKeeper } from '../../control-plane/app/audit/head-keeper.ts';
import { Denylist } from '../../control-plane/app/certificates/denylist.ts';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import {
	openCertificateAuthority,
	type RunningAuthority,
} from '../../control-plane/app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT, type AppDeps, type AppLimits } from '../../control-plane/app/deps.ts';
import { StreamGuard } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { fillPendingSlot, issueToNode } from '../../control-plane/app/enrollment/issue.ts';
import { renewCertificate } from '../../control-plane/app/enrollment/renew.ts';
import { LINK_LIMITS_DEFAULT, type LinkLimits } from '../../control-plane/app/sessions/limits.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import type { OutputChunk, OutputStore } from '../../control-plane/app/tasks/output-store.ts';
import { recordDeclined } from '../../control-plane/app/tasks/record-declined.ts';
import { recordFacts } from '../../control-plane/app/tasks/record-facts.ts';
import { openUpload } from '../../control-plane/app/tasks/upload-output.ts';
import { terminalsOfAgents } from '../../control-plane/app/terminals/agent-side.ts';
import { TerminalHub } from '../../control-plane/app/terminals/hub.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import type { GatewayIdentity } from '../../control-plane/gateway/credentials.ts';
import type { LinkDeps, SessionOpened } from '../../control-plane/gateway/link-deps.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../../control-plane/gateway/server.ts';
import { gatewayIdentity } from '../../control-plane/parts.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { SqliteStore } from '../../control-plane/store/sqlite/store.ts';
import { systemClock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import { generateNodeKey } from '../../pki/keys/node-key.ts';
import { createCsr } from '../../pki/x509/csr.ts';
import { type Command, type Fact, FactSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * A real control plane around the link (SQLite, certificate authority, gateway on port 0) and real agents of it, in one
 * process. Only the output store is in memory. What a test wants to see or to break is a function that it may replace.
 */
export interface WorldOptions {
	readonly limits?: Partial<LinkLimits>;
	readonly appLimits?: Partial<AppLimits>;
	readonly gateway?: Partial<GatewayOptions>;
	readonly recordFacts?: (deps: AppDeps) => LinkDeps['recordFacts'];
}

export interface World extends AsyncDisposable {
	readonly app: AppDeps;
	readonly heads: ShownHead;
	readonly appendAudit: AppendAudit;
	readonly store: Store;
	readonly authority: RunningAuthority;
	readonly registry: SessionRegistry;
	readonly denylist: Denylist;
	readonly gateway: Gateway;
	readonly opened: SessionOpened[];
	readonly output: MemoryOutput;
	/** Every call of recordFacts that returned, in order. */
	readonly committed: { nodeId: string; facts: bigint[] }[];
	readonly telemetry: string[];
	readonly linkDeps: LinkDeps;
	readonly gatewayIdentity: GatewayIdentity;
	enroll(options?: {
		readonly gateways?: readonly string[];
		readonly node?: Partial<NodeRow>;
	}): Promise<StoredIdentity>;
	agent(identity: StoredIdentity, overrides?: Partial<ControlDeps>): TestAgent;
	/** Another gateway on the same store: a restart, or a second replica. */
	startGateway(deps?: Partial<LinkDeps>): Promise<Gateway>;
	newReplicaIdentity(): Promise<GatewayIdentity>;
	folder(name: string): string;
}

export interface TestAgent {
	readonly control: Control;
	readonly journal: MemoryJournal;
	readonly handled: Command[];
	readonly identity: StoredIdentity;
	start(): void;
	/** Goodbye, as a service that is stopped. */
	stop(): Promise<void>;
}

/** Shows the head that a test wants, and says which ones agents brought. */
export class ShownHead implements HeadKeeper {
	note = headNote(3);
	readonly witnessed: string[] = [];
	latest = () => this.note;
	async covered(): Promise<void> {}
	assertSigning(): void {}
	witness(note: string): void {
		this.witnessed.push(note);
	}
}

/** As an agent sees a head: it can't check the signature. */
export function headNote(size: number, chainByte = 7): string {
	const chain = Buffer.alloc(32, chainByte).toString('base64');
	return `${TRUST_DOMAIN}/audit-chain/v1\n${size}\n${chain}\n\n— ${TRUST_DOMAIN}/audit c2lnbmF0dXJl\n`;
}

export class MemoryOutput implements OutputStore {
	readonly chunks = new Map<string, OutputChunk[]>();
	/** Set to make appends wait. */
	gate: Promise<void> = Promise.resolve();
	appends = 0;

	async storedOffset(taskId: string, attempt: number): Promise<number> {
		const last = this.chunks.get(`${taskId}/${attempt}`)?.at(-1);
		return last === undefined ? 0 : last.offset + last.data.length;
	}
	async append(taskId: string, attempt: number, chunks: readonly OutputChunk[], storedBytesMax: number) {
		this.appends += 1;
		await this.gate;
		const key = `${taskId}/${attempt}`;
		const stored = this.chunks.get(key) ?? [];
		this.chunks.set(key, stored);
		for (const chunk of chunks) {
			const offset = await this.storedOffset(taskId, attempt);
			if (chunk.offset < offset) continue;
			if (chunk.offset - chunk.droppedBytes > offset) throw new Error(`a gap at ${offset}`);
			const storedBytes = stored.reduce((sum, { data }) => sum + data.length, 0);
			if (storedBytes + chunk.data.length > storedBytesMax)
				throw new GpuaasError({
					code: 'FAILED_PRECONDITION',
					reason: 'OUTPUT_TOO_LARGE',
					message: 'more than allowed',
				});
			stored.push(chunk);
		}
		return await this.storedOffset(taskId, attempt);
	}
	async sync(): Promise<void> {}
	async read(taskId: string, attempt: number): Promise<readonly OutputChunk[]> {
		return this.chunks.get(`${taskId}/${attempt}`) ?? [];
	}
	async remove(): Promise<void> {}
	async check(): Promise<void> {}
}

export const TRUST_DOMAIN = 'test.example';

export async function startWorld(options: WorldOptions = {}): Promise<World> {
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-link-'));
	const { clock, app, store, bus, registry, authority, output, appendAudit } = await openApp(folder, options.appLimits);
	const denylist = await Denylist.open({ clock, log: silentLogger, store, bus, sessions: registry });
	const guard = new StreamGuard(app, denylist);
	const opened: SessionOpened[] = [];
	const committed: World['committed'] = [];
	const telemetry: string[] = [];
	const record: LinkDeps['recordFacts'] =
		options.recordFacts?.(app) ?? ((ctx, from, facts) => recordFacts(app, ctx, from, facts));
	const linkDeps: LinkDeps = {
		app,
		registry,
		limits: {
			...LINK_LIMITS_DEFAULT,
			tickMs: 20,
			sweepMs: 20,
			reconnectFloorMs: 100,
			shutdownSpreadMs: 100,
			...options.limits,
		},
		authorizeStream: (ctx, leafDer) => guard.authorizeStream(ctx, leafDer),
		recordFacts: async (ctx, from, facts) => {
			const acked = await record(ctx, from, facts);
			committed.push({ nodeId: from.nodeId, facts: facts.map(({ seq }) => seq) });
			return acked;
		},
		recordDeclined: (ctx, from, declined) => recordDeclined(app, ctx, from, declined),
		onSessionOpen: (session) => opened.push(session),
		ingestTelemetry: (nodeId) => telemetry.push(nodeId),
		historyAnswer: () => {},
		fastPlanOf: () => undefined,
		...terminalsOfAgents({ ...app, appendAudit }),
		openUpload: (ctx, nodeId, hello) => openUpload(app, ctx, nodeId, hello),
		renewCertificate: (ctx, peer, { csr, joinState }) =>
			renewCertificate(app, ctx, { nodeId: peer.nodeId, serial: peer.serial, csr, joinState }),
	};
	let replicas = 0;
	const newReplicaIdentity = async (): Promise<GatewayIdentity> => {
		replicas += 1;
		const names = { replicaId: `replica-${replicas}`, dnsNames: [], ipAddresses: [] };
		return gatewayIdentity(await issueReplicaCertificate(app, authority, names), authority);
	};
	const firstIdentity = await newReplicaIdentity();
	const gateways: Gateway[] = [];
	const start = async (deps: Partial<LinkDeps> = {}) => {
		const gateway = await startGateway(
			{ ...linkDeps, ...deps },
			{ host: '127.0.0.1', port: 0, identity: firstIdentity, ...options.gateway },
		);
		gateways.push(gateway);
		return gateway;
	};
	const gateway = await start();
	const agents: TestAgent[] = [];
	const enroll = enroller(app, folder, () => gateway.port);
	const transport = new GrpcTransport(clock);
	const agent: World['agent'] = (identity, overrides = {}) => {
		const made = makeAgent(identity, transport, overrides);
		agents.push(made);
		return made;
	};
	return {
		app,
		heads: app.heads,
		appendAudit,
		store,
		authority,
		registry,
		denylist,
		gateway,
		opened,
		output,
		committed,
		telemetry,
		linkDeps,
		gatewayIdentity: firstIdentity,
		enroll,
		agent,
		startGateway: start,
		newReplicaIdentity,
		folder: (name) => join(folder, name),
		async [Symbol.asyncDispose]() {
			await Promise.all(agents.map((each) => each.stop()));
			await Promise.all(gateways.map((each) => each[Symbol.asyncDispose]()));
			denylist[Symbol.dispose]();
			await store[Symbol.asyncDispose]();
			rmSync(folder, { recursive: true, force: true });
		},
	};
}

/** The control plane without its gateway. */
async function openApp(folder: string, limits: Partial<AppLimits> = {}) {
	const clock = systemClock;
	const rng = systemRng;
	const store = new SqliteStore({ at: { path: join(folder, 'control-plane.db') }, clock });
	const appendAudit = createAppendAudit({ clock, rng });
	const bus = new InProcessBus();
	const registry = new SessionRegistry();
	const authority = await openCertificateAuthority({
		store,
		keys: new KeyFolder(join(folder, 'keys'), rng),
		clock,
		rng,
		log: silentLogger,
		trustDomain: TRUST_DOMAIN,
		appendAudit,
	});
	const output = new MemoryOutput();
	const app = {
		clock,
		rng,
		log: silentLogger,
		store,
		bus,
		sessions: registry,
		authority,
		output,
		terminals: new TerminalHub(clock),
		heads: new ShownHead(),
		limits: { ...APP_LIMITS_DEFAULT, ...limits },
		replicaId: 'replica-1',
		version: 'test',
		appendAudit,
	};
	return { clock, app, store, bus, registry, authority, output, appendAudit };
}

/** What enrollment leaves behind, at both ends, without its exchange. */
function enroller(app: AppDeps, folder: string, port: () => number): World['enroll'] {
	const { clock, rng, store, authority } = app;
	let folders = 0;
	return async ({ gateways: addresses, node = {} } = {}) => {
		const key = generateNodeKey();
		const nodeId = uuidv7(clock.now(), rng);
		const generation = node.generation ?? 1;
		const issue = await issueToNode(app, { nodeId, generation, renewalSeq: 1, csrDer: createCsr(key.signer) });
		await store.unit(function* (tx) {
			yield* tx.nodes.insert({ ...nodeRow(nodeId, clock.now()), generation, ...node });
			yield* fillPendingSlot(tx, issue);
		});
		folders += 1;
		const identityFolder = new IdentityFolder(join(folder, `agent-${folders}`), rng);
		const credential = storedCredential({ chain: issue.chain, keyPem: key.privateKeyPem, joinState: issue.joinState });
		const state = {
			format: STATE_FORMAT,
			nodeId,
			nodeName: nodeId,
			generation,
			trustDomain: TRUST_DOMAIN,
			gateways: addresses ?? [`127.0.0.1:${port()}`],
			enrollAddresses: [],
			bundle: toBase64(authority.bundle().bytes),
			current: credential,
			candidate: null,
		} as const;
		identityFolder.writeState(state);
		return new StoredIdentity(identityFolder, state);
	};
}

export function makeAgent(
	identity: StoredIdentity,
	transport: LinkTransport,
	overrides: Partial<ControlDeps>,
): TestAgent {
	const journal = (overrides.journal as MemoryJournal | undefined) ?? new MemoryJournal();
	const handled: Command[] = [];
	const commands: CommandSink = {
		handle: (command) => void handled.push(command),
		attempts: () => [],
		takeDeclined: () => [],
		runningCount: () => 0,
	};
	const control = new ControlClass({
		clock: systemClock,
		rng: systemRng,
		log: silentLogger,
		transport,
		identity,
		journal,
		commands,
		host: {
			bootId: 'boot-1',
			agentVersion: '0.1.0',
			capabilities: ['run'],
			hostname: 'host-1',
			instanceId: uuidv7(systemClock.now(), systemRng),
		},
		// Short waits: a test waits for what happens, not for a backoff.
		limits: {
			...CONTROL_LIMITS_DEFAULT,
			backoffBaseMs: 20,
			backoffMaxMs: 100,
			bundleMoveSpreadMs: 10,
			refusedRetryMs: 100,
		},
		onRenewNow: () => {},
		onTelemetryPlan: () => {},
		telemetryDropped: () => 0,
		prepare: async () => {},
		...overrides,
	});
	const stopping = new AbortController();
	let running: Promise<void> = Promise.resolve();
	return {
		control,
		journal,
		handled,
		identity,
		start: () => {
			running = control.run(stopping.signal);
		},
		stop: async () => {
			stopping.abort();
			await running;
		},
	};
}

export function targetOf(identity: StoredIdentity, gateway: string): LinkTarget {
	return { gateway, trustDomain: identity.trustDomain, credential: identity.credential(), bundle: identity.bundle() };
}

/** Facts that change nothing but the audit log. */
export function auditFacts(count: number, detailBytes = 8): Fact[] {
	return Array.from({ length: count }, (_, index) =>
		create(FactSchema, {
			fact: { case: 'agentAudit', value: { action: 'test.happened', detail: `${index}`.padEnd(detailBytes, '.') } },
		}),
	);
}

function nodeRow(id: string, nowMs: number): NodeRow {
	return {
		id,
		name: `node-${id}`,
		state: 'enrolling',
		custody: 'platform',
		generation: 1,
		cordoned: false,
		cordonReason: '',
		locked: false,
		lockReason: '',
		labels: {},
		hostname: '',
		serial: '',
		agentVersion: '',
		bootId: '',
		instanceId: '',
		capabilities: [],
		enrolledAtMs: nowMs,
		lastSeenAtMs: null,
		epoch: 0,
		fencingSeq: 0,
		factSeq: 0,
		renewalSeq: 1,
		recoveries: 0,
		bundleSeqAcked: 0,
		issuerKeyIdAcked: '',
		retiredAtMs: null,
		version: 1,
	};
}
