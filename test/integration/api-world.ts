import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescService } from '@bufbuild/protobuf';
import { type Client, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { ApiSessions } from '../../cli/sessions.ts';
import { FileOutputStore } from '../../control-plane/adapters/object-store/file-output-store.ts';
import { FileRecordingStore } from '../../control-plane/adapters/object-store/file-recording-store.ts';
import type { EdgeSettings, OidcSettings } from '../../control-plane/adapters/oidc/open.ts';
import type { WebClientSettings } from '../../control-plane/adapters/oidc/web-client.ts';
import { API_LIMITS_DEFAULT, type ApiLimits } from '../../control-plane/api/limits.ts';
import { type ApiServer, type ApiTls, createApiServer } from '../../control-plane/api/server.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import type { HeadKeeper } from '../../control-plane/app/audit/head-keeper.ts';
import { parseLeaf } from '../../control-plane/app/audit/leaf.ts';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from '../../control-plane/app/deps.ts';
import { macOf, mintApiKey } from '../../control-plane/app/iam/api-key.ts';
import { bootstrapOperator } from '../../control-plane/app/iam/bootstrap.ts';
import { mintPeppers, type PepperRing, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { KeyUses } from '../../control-plane/app/keys/uses.ts';
import type { BrowserLogin } from '../../control-plane/app/login/browser-login.ts';
import { EDGE_HEADERS } from '../../control-plane/app/login/edge-gate.ts';
import { LOGIN_DEFAULT, type LoginSettings } from '../../control-plane/app/login/settings.ts';
import { PageTokens } from '../../control-plane/app/paging.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import type { TelemetryLimits } from '../../control-plane/app/telemetry/limits.ts';
import { Telemetry, type TelemetryDeps } from '../../control-plane/app/telemetry/telemetry.ts';
import { TerminalHub } from '../../control-plane/app/terminals/hub.ts';
import type { UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { CONTROL_PLANE_SCHEMA } from '../../control-plane/config.ts';
import { type DoorsOptions, openDoors } from '../../control-plane/doors.ts';
import type { StoreDeps } from '../../control-plane/store/deps.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { PrincipalKind } from '../../control-plane/store/port/identities.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { RollupFile } from '../../control-plane/store/sqlite/rollups.ts';
import { assert, present } from '../../kit/assert.ts';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { loadConfig } from '../../kit/config.ts';
import { Registry } from '../../kit/exposition.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';
import { insertProject } from '../contract/store/projects.ts';
import { bindingRow, credentialRow, principalRow } from '../contract/store/rows.ts';
import { inLockOrder } from './lock-order.ts';

/**
 * The API half of a control plane, real down to TLS sockets, SQLite, key files and output files. No agent is connected
 * to its session registry; audit heads are said to cover everything at once.
 */
export interface ApiWorldOptions {
	readonly limits?: Partial<AppLimits>;
	readonly api?: Partial<ApiLimits>;
	readonly log?: Logger;
	/** Default: the system's. */
	readonly clock?: Clock;
	/** Of what counts refusals alone: when the next record of the same is written. */
	readonly refusalsClock?: Clock;
	/** Of telemetry alone: how old samples are. */
	readonly telemetryClock?: Clock;
	readonly telemetryLimits?: Partial<TelemetryLimits>;
	/** Logins of people, by a real provider. */
	readonly oidc?: Partial<OidcSettings & LoginSettings>;
	/** The client of browser sessions. */
	readonly web?: WebClientSettings;
	/** An access proxy in front. */
	readonly edge?: EdgeSettings;
	readonly trustedProxies?: readonly string[];
	/** Default: SQLite on a file in the world's folder. */
	readonly openStore?: (deps: StoreDeps, folder: string) => Promise<Store>;
	/** In place of the application's own filter: isolation tests take that away to see row security alone. */
	readonly policies?: PolicyCache;
}

const AUDIT_MAX = 20_000;

export class ApiWorld implements AsyncDisposable {
	readonly folder: string;
	readonly deps: UseCaseDeps;
	readonly server: ApiServer;
	readonly registry: Registry;
	readonly uses: KeyUses;
	/** Sessions of browsers, when `web` turned them on. */
	readonly browser: BrowserLogin | undefined;
	readonly operatorKey: string;
	readonly heads: HeadsProbe;
	/** The server's own: chain and key, PEM. */
	readonly tls: ApiTls;
	readonly #pepper: PepperRing;
	/** PEM of the root that the server's certificate chains to. */
	readonly rootPem: string;
	readonly #close: AsyncDisposableStack;

	private constructor(parts: Parts) {
		this.folder = parts.folder;
		this.deps = parts.deps;
		this.server = parts.server;
		this.registry = parts.registry;
		this.uses = parts.uses;
		this.browser = parts.browser;
		this.operatorKey = parts.operatorKey;
		this.heads = parts.heads;
		this.rootPem = parts.rootPem;
		this.tls = parts.tls;
		this.#pepper = parts.pepper;
		this.#close = parts.close;
	}

	static async start(options: ApiWorldOptions = {}): Promise<ApiWorld> {
		const close = new AsyncDisposableStack();
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-api-'));
		close.defer(() => rmSync(folder, { recursive: true, force: true }));
		const rng = systemRng;
		const { log = silentLogger, clock = systemClock } = options;
		const store = inLockOrder(close.use(await (options.openStore ?? openSqlite)({ clock, rng, log }, folder)));
		const appendAudit = createAppendAudit({ clock, rng });
		const keys = new KeyFolder(join(folder, 'keys'), rng);
		const trustDomain = 'test.gpuaas.example';
		const authority = await openCertificateAuthority({ store, keys, clock, rng, log, appendAudit, trustDomain });
		const pepper = parsePeppers(mintPeppers(rng));
		const heads = new HeadsProbe();
		const bus = new InProcessBus();
		const sessions = new SessionRegistry();
		const telemetry = await openTelemetry(folder, { store, bus, clock, rng, log, sessions }, options, close);
		const deps: UseCaseDeps = {
			clock,
			rng,
			log,
			store,
			bus,
			sessions,
			telemetry,
			authority,
			recordings: new FileRecordingStore({ folder: join(folder, 'recordings'), freeBytesMin: 0 }),
			output: close.use(new FileOutputStore({ folder: join(folder, 'output'), freeBytesMin: 0 })),
			terminals: new TerminalHub(clock),
			heads,
			limits: { ...APP_LIMITS_DEFAULT, ...options.limits },
			login: { ...LOGIN_DEFAULT, ...options.oidc },
			replicaId: 'replica-1',
			version: '0.1.0+test',
			appendAudit,
			pages: new PageTokens(pepper.derive('page tokens')),
			refusals: close.use(new RefusalLog({ store, clock: options.refusalsClock ?? clock, appendAudit })),
			policies: options.policies ?? new PolicyCache(),
			secrets: { ring: pepper, environment: 'test' },
		};
		const operatorKey = present(
			await bootstrapOperator(deps, { pepper, environment: 'test', appendAudit }),
			'first start',
		);
		await insertProjects(store);
		const credential = await issueReplicaCertificate(deps, authority, {
			replicaId: 'replica-1',
			dnsNames: ['localhost'],
			ipAddresses: ['127.0.0.1'],
		});
		const registry = new Registry();
		const uses = close.use(new KeyUses(deps));
		const doors = doorsOf({ deps, pepper, registry, uses }, options, close);
		const server = close.use(await createApiServer({ deps, tls: credential, registry, ...doors, ...edges(options) }));
		const rootPem = lastCertificate(credential.chainPem);
		const { browser } = doors;
		const parts = { browser, folder, deps, server, registry, uses, operatorKey, heads, rootPem, pepper, close };
		return new ApiWorld({ ...parts, tls: credential });
	}

	get url(): string {
		return `https://127.0.0.1:${this.server.address.port}`;
	}

	/** The root as a file, for programs. */
	rootFile(): string {
		const path = join(this.folder, 'root.pem');
		writeFileSync(path, this.rootPem);
		return path;
	}

	/** `key` undefined: anonymous. */
	client<S extends DescService>(service: S, key?: string, headers: Readonly<Record<string, string>> = {}): Client<S> {
		const authorize: Interceptor = (next) => (request) => {
			if (key !== undefined) request.header.set('authorization', `Bearer ${key}`);
			for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
			return next(request);
		};
		const transport = createConnectTransport({
			baseUrl: this.url,
			httpVersion: '2',
			sessionManager: new ApiSessions(this.url, {}, { ca: this.rootPem }),
			interceptors: [authorize],
		});
		return createClient(service, transport);
	}

	async addNode(patch: Partial<NodeRow> = {}): Promise<NodeRow> {
		const id = uuidv7(systemClock.now(), systemRng);
		const row: NodeRow = {
			id,
			name: `node-${id.slice(-12)}`,
			state: 'available',
			custody: 'platform',
			generation: 1,
			cordoned: false,
			cordonReason: '',
			locked: false,
			lockReason: '',
			labels: {},
			hostname: 'host',
			serial: '',
			agentVersion: '0.1.0',
			bootId: '',
			instanceId: '',
			capabilities: [],
			enrolledAtMs: systemClock.now(),
			lastSeenAtMs: null,
			epoch: 0,
			fencingSeq: 0,
			factSeq: 0,
			renewalSeq: 0,
			recoveries: 0,
			bundleSeqAcked: 0,
			issuerKeyIdAcked: '',
			retiredAtMs: null,
			version: 1,
			...patch,
		};
		await this.deps.store.unit((tx) => tx.nodes.insert(row));
		this.deps.bus.publish({ topic: 'nodes.changed', key: id });
		return row;
	}

	/** A principal with one key and one binding; the key's text. */
	async addPrincipal(
		kind: Exclude<PrincipalKind, 'group'>,
		role: string,
		scope: string,
		expiresInMs = 3_600_000,
	): Promise<string> {
		const { key, text } = mintApiKey(kind === 'service_account' ? 'sk' : 'uk', 'test', systemRng);
		const nowMs = systemClock.now();
		const id = `principal-${key.id}`;
		const pepper = this.#pepper;
		await this.deps.store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(
				principalRow(id, { kind, displayName: `${role} person`, createdAtMs: nowMs }),
			);
			yield* tx.apiKeys.insertCredential(
				credentialRow(key.id, id, {
					mac: macOf(key, pepper.current),
					pepperVersion: pepper.currentVersion,
					createdAtMs: nowMs,
					expiresAtMs: nowMs + expiresInMs,
				}),
			);
			const [, organization, , project] = scope.split('/');
			if (organization !== undefined) {
				yield* insertProject(tx, organization, project ?? 'train');
				yield* tx.identities.insertMember({ organization, principalId: id, joinedAtMs: nowMs, addedBy: id });
			}
			yield* tx.access.insertBinding(bindingRow(uuidv7(nowMs, systemRng), id, { role, scope }));
		});
		return text;
	}

	/** A key of a principal that is there; its text. */
	async addKey(principalId: string): Promise<string> {
		const { key, text } = mintApiKey('uk', 'test', systemRng);
		const { current, currentVersion: pepperVersion } = this.#pepper;
		const [createdAtMs, mac] = [systemClock.now(), macOf(key, current)];
		const times = { createdAtMs, expiresAtMs: createdAtMs + 3_600_000 };
		const row = credentialRow(key.id, principalId, { mac, pepperVersion, ...times });
		await this.deps.store.unit((tx) => tx.apiKeys.insertCredential(row));
		return text;
	}

	/** The audit records so far, oldest first. */
	async audit() {
		const rows = await this.deps.store.read((tx) => tx.audit.listUnchained(AUDIT_MAX));
		assert(rows.length < AUDIT_MAX, 'the newest records would be missing');
		return rows.map(({ leaf }) => present(parseLeaf(leaf), 'a leaf of ours'));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#close.disposeAsync();
	}
}

function openSqlite(deps: StoreDeps, folder: string): Promise<Store> {
	return openStore(join(folder, 'store.db'), deps);
}

async function insertProjects(store: Store): Promise<void> {
	for (const organization of ['acme', 'rival']) await store.unit((tx) => insertProject(tx, organization, 'train'));
}

function lastCertificate(chainPem: string): string {
	const pem = chainPem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g)?.at(-1);
	return present(pem, 'a chain');
}

async function openTelemetry(
	folder: string,
	deps: Omit<TelemetryDeps, 'periodMs' | 'history'>,
	{ telemetryClock: clock = deps.clock, telemetryLimits = {} }: ApiWorldOptions,
	close: AsyncDisposableStack,
): Promise<Telemetry> {
	const rollups = close.use(new RollupFile({ path: join(folder, 'history.db') }));
	const history = { rollups, retentionMs: 72 * 3_600_000, bytesMax: 1e9 };
	const telemetry = close.use(new Telemetry({ ...deps, clock, telemetryLimits, periodMs: 15_000, history }));
	await telemetry.start();
	return telemetry;
}

/** Says which leaves were waited for; a test may stop the signing. */
export class HeadsProbe implements HeadKeeper {
	readonly waitedFor: string[] = [];
	stopped: Error | undefined;
	latest = () => '';
	witness(): void {}
	async covered(leafId: string): Promise<void> {
		this.waitedFor.push(leafId);
		if (this.stopped !== undefined) throw this.stopped;
	}
	assertSigning(): void {
		if (this.stopped !== undefined) throw this.stopped;
	}
}

function doorsOf(
	parts: Pick<DoorsOptions, 'deps' | 'pepper' | 'registry' | 'uses'>,
	options: ApiWorldOptions,
	close: AsyncDisposableStack,
) {
	const defaults = loadConfig(CONTROL_PLANE_SCHEMA, { env: {} }).values;
	const config = {
		core: { ...defaults.core, environment: 'test' },
		oidc: { ...defaults.oidc, ...options.oidc },
		edge: { ...defaults.edge, ...options.edge },
	};
	return openDoors({ ...parts, config, web: options.web, cooldownMs: 0 }, close);
}

function edges({ edge, trustedProxies = [], api }: ApiWorldOptions) {
	return {
		listen: { host: '127.0.0.1', port: 0, trustedProxies },
		// Both ends share one loop here: a machine that stands still for 5 s must cut no handshake.
		limits: { ...API_LIMITS_DEFAULT, tlsHandshakeTimeoutMs: 60_000, ...api },
		...(edge === undefined || edge.kind === 'none' ? {} : { edgeHeader: EDGE_HEADERS[edge.kind] }),
	};
}

interface Parts
	extends Pick<
		ApiWorld,
		'folder' | 'deps' | 'server' | 'registry' | 'uses' | 'browser' | 'operatorKey' | 'heads' | 'rootPem' | 'tls'
	> {
	readonly pepper: PepperRing;
	readonly close: AsyncDisposableStack;
}
