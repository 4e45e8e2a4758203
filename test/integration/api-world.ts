import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescService } from '@bufbuild/protobuf';
import { type Client, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { FileOutputStore } from '../../control-plane/adapters/object-store/file-output-store.ts';
import { API_LIMITS_DEFAULT, type ApiLimits } from '../../control-plane/api/limits.ts';
import { type ApiServer, createApiServer } from '../../control-plane/api/server.ts';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import type { HeadKeeper } from '../../control-plane/app/audit/head-keeper.ts';
import { parseLeaf } from '../../control-plane/app/audit/leaf.ts';
import { issueReplicaCertificate } from '../../control-plane/app/certificates/replica-certificate.ts';
import { openCertificateAuthority } from '../../control-plane/app/certificates/running-authority.ts';
import { APP_LIMITS_DEFAULT, type AppLimits } from '../../control-plane/app/deps.ts';
import { macOf, mintApiKey } from '../../control-plane/app/iam/api-key.ts';
import { ApiKeyAuthenticator } from '../../control-plane/app/iam/authenticate.ts';
import { bootstrapOperator } from '../../control-plane/app/iam/bootstrap.ts';
import { mintPeppers, type PepperRing, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { PageTokens } from '../../control-plane/app/paging.ts';
import { SessionRegistry } from '../../control-plane/app/sessions/registry.ts';
import type { UseCaseDeps } from '../../control-plane/app/use-case.ts';
import { InProcessBus } from '../../control-plane/bus/in-process.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { PrincipalKind } from '../../control-plane/store/port/identities.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { Registry } from '../../kit/exposition.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { KeyFolder } from '../../pki/keys/file.ts';

/**
 * The API half of a control plane, real down to TLS sockets, SQLite, key files and output files. No agent is connected
 * to its session registry; audit heads are said to cover everything at once.
 */
export interface ApiWorldOptions {
	readonly limits?: Partial<AppLimits>;
	readonly api?: Partial<ApiLimits>;
	readonly log?: Logger;
}

export class ApiWorld implements AsyncDisposable {
	readonly folder: string;
	readonly deps: UseCaseDeps;
	readonly server: ApiServer;
	readonly registry: Registry;
	readonly operatorKey: string;
	readonly heads: HeadsProbe;
	readonly #pepper: PepperRing;
	/** PEM of the root that the server's certificate chains to. */
	readonly rootPem: string;
	readonly #close: AsyncDisposableStack;

	private constructor(parts: Parts) {
		this.folder = parts.folder;
		this.deps = parts.deps;
		this.server = parts.server;
		this.registry = parts.registry;
		this.operatorKey = parts.operatorKey;
		this.heads = parts.heads;
		this.rootPem = parts.rootPem;
		this.#pepper = parts.pepper;
		this.#close = parts.close;
	}

	static async start(options: ApiWorldOptions = {}): Promise<ApiWorld> {
		const close = new AsyncDisposableStack();
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-api-'));
		close.defer(() => rmSync(folder, { recursive: true, force: true }));
		const clock = systemClock;
		const rng = systemRng;
		const log = options.log ?? silentLogger;
		const store = close.use(await openStore(join(folder, 'store.db'), { clock, rng, log }));
		const appendAudit = createAppendAudit({ clock, rng });
		const keys = new KeyFolder(join(folder, 'keys'), rng);
		const authority = await openCertificateAuthority({
			store,
			keys,
			clock,
			rng,
			log,
			appendAudit,
			trustDomain: 'test.gpuaas.example',
		});
		const pepper = parsePeppers(mintPeppers(rng));
		const heads = new HeadsProbe();
		const deps: UseCaseDeps = {
			clock,
			rng,
			log,
			store,
			bus: new InProcessBus(),
			sessions: new SessionRegistry(),
			authority,
			output: close.use(new FileOutputStore({ folder: join(folder, 'output'), freeBytesMin: 0 })),
			heads,
			limits: { ...APP_LIMITS_DEFAULT, ...options.limits },
			replicaId: 'replica-1',
			version: '0.1.0+test',
			appendAudit,
			pages: new PageTokens(pepper.derive('page tokens')),
			refusals: close.use(new RefusalLog({ store, clock, appendAudit })),
		};
		const operatorKey = present(
			await bootstrapOperator(deps, { pepper, environment: 'test', appendAudit }),
			'first start',
		);
		const credential = await issueReplicaCertificate(deps, authority, {
			replicaId: 'replica-1',
			dnsNames: ['localhost'],
			ipAddresses: ['127.0.0.1'],
		});
		const registry = new Registry();
		const server = close.use(
			await createApiServer({
				deps,
				tls: credential,
				listen: { host: '127.0.0.1', port: 0 },
				authenticator: new ApiKeyAuthenticator({ store, clock, log, pepper, environment: 'test' }),
				registry,
				limits: { ...API_LIMITS_DEFAULT, ...options.api },
			}),
		);
		const rootPem = present(
			credential.chainPem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g)?.at(-1),
			'a chain',
		);
		return new ApiWorld({ folder, deps, server, registry, operatorKey, heads, rootPem, pepper, close });
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
			nodeOptions: { ca: this.rootPem },
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
		return row;
	}

	/** A principal with one key and one binding; the key's text. */
	async addPrincipal(kind: PrincipalKind, role: string, scope: string, expiresInMs = 3_600_000): Promise<string> {
		const { key, text } = mintApiKey(kind === 'service_account' ? 'sk' : 'uk', 'test', systemRng);
		const nowMs = systemClock.now();
		const id = `principal-${key.id}`;
		const pepper = this.#pepper;
		await this.deps.store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal({
				id,
				kind,
				displayName: `${role} person`,
				createdAtMs: nowMs,
				disabledAtMs: null,
			});
			yield* tx.identities.insertCredential({
				id: key.id,
				principalId: id,
				mac: macOf(key, pepper.current),
				pepperVersion: pepper.currentVersion,
				createdAtMs: nowMs,
				expiresAtMs: nowMs + expiresInMs,
				revokedAtMs: null,
			});
			yield* tx.identities.insertBinding({
				id: uuidv7(nowMs, systemRng),
				principalId: id,
				role,
				scope,
				expiresAtMs: null,
			});
		});
		return text;
	}

	/** The audit records so far, oldest first. */
	async audit() {
		const rows = await this.deps.store.read((tx) => tx.audit.listUnchained(10_000));
		return rows.map(({ leaf }) => present(parseLeaf(leaf), 'a leaf of ours'));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#close.disposeAsync();
	}
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

interface Parts
	extends Pick<ApiWorld, 'folder' | 'deps' | 'server' | 'registry' | 'operatorKey' | 'heads' | 'rootPem'> {
	readonly pepper: PepperRing;
	readonly close: AsyncDisposableStack;
}
