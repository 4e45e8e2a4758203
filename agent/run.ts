import { mkdir } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Clock, sleep } from '../kit/clock.ts';
import type { Logger } from '../kit/log.ts';
import { aborted, Scope } from '../kit/scope.ts';
import { ownVersion } from '../kit/version.ts';
import { RenewCertificateRequestSchema, type RenewCertificateResponse } from '../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { AgentConfig } from './config.ts';
import { CONTROL_LIMITS_DEFAULT } from './control/control-deps.ts';
import { GrpcTransport } from './control/grpc-transport.ts';
import { OutputUploader } from './control/output-uploader.ts';
import { Control } from './control/session.ts';
import { hostFacts, readPolicy, runnerPlatform } from './host-side.ts';
import { hardwareFacts, identify } from './identify.ts';
import { recover } from './identity/enroll.ts';
import { Renewal, type RenewedCertificate } from './identity/renewal.ts';
import { SqliteJournal } from './journal/sqlite.ts';
import { startTelemetry, telemetryCommands } from './measure.ts';
import { readPlatformFacts } from './platform/facts.ts';
import { unitOf } from './platform/host-units.ts';
import type { SocketProcessHost } from './process-host/client.ts';
import { keepHost } from './process-host/keeper.ts';
import { startProcessHost } from './process-host/start.ts';
import { Succession } from './process-host/succession.ts';
import { announceReady, writeStatus } from './reporting.ts';
import { foldersOf } from './settings.ts';
import { DeviceGuard } from './tasks/device-guard.ts';
import { TaskRunner } from './tasks/runner.ts';
import { RUNNER_LIMITS_DEFAULT } from './tasks/runner-deps.ts';
import type { Telemetry } from './telemetry/telemetry.ts';
import { terminalSide } from './terminal-side.ts';

/** Between SIGTERM and SIGKILL of tasks that end with the agent. */
const HOST_SHUTDOWN_GRACE_MS = 3000;
/** A link doesn't wait longer for a process host, which may be slow to start or fail. */
const HOST_KNOWN_MS_MAX = 10_000;

/**
 * The agent, top to bottom: who it is, what it remembers, what it may run, the process host, the link, telemetry. The
 * parts run under one scope that ends with `signal`; the process host and its tasks go on unless the configuration says
 * that they end with the agent.
 */
export async function runAgent(deps: AgentDeps, signal: AbortSignal): Promise<void> {
	const { config, version, clock, rng, log } = deps;
	const folders = foldersOf(config);
	await mkdir(config.core.data, { recursive: true, mode: 0o700 });
	const facts = readPlatformFacts();
	const identity = await identify({ config, facts, version, clock, rng, log });
	if (config.link.gateways.length > 0) identity.overrideGateways(config.link.gateways);
	await using scope = new Scope((name, error) => log.error('a part of the agent failed', { part: name, error }));

	const journal = new SqliteJournal({ path: folders.journal, bytesMax: config.tasks.journalBytes });
	scope.defer(() => journal.close());
	const policy = readPolicy(config.core.policy, log);
	const devices = scope.use(new DeviceGuard({ clock, log, policy, policyPath: config.core.policy }));
	const parts = { identity, journal, policy, devices };
	const runner = scope.use(
		new TaskRunner({
			clock,
			log,
			...parts,
			platform: runnerPlatform(facts, deps, (...fault) => injectInto(telemetry, ...fault)),
			limits: RUNNER_LIMITS_DEFAULT,
		}),
	);
	const side = terminalSide(deps, { ...parts, sendInventory: (ids) => control.sendChannels(ids) });
	const connectHost = hostConnector(deps, folders.processHost);

	const control: Control = new Control({
		clock,
		rng,
		log,
		transport: new GrpcTransport(clock),
		identity,
		journal,
		commands: side.commands(runner),
		host: hostFacts(deps, facts, devices),
		limits: CONTROL_LIMITS_DEFAULT,
		onRenewNow: (reason) => renewal.renewNow(reason),
		...telemetryCommands(
			() => telemetry,
			() => control,
			log,
		),
		prepare: async () => {
			// A control plane that was restored from before a renewal doesn't know the renewed certificate.
			const isUnknown = control.state().lastEnd?.reason === 'CERTIFICATE_NOT_FOUND';
			if (isUnknown) identity.abandonCandidate(identity.credential().serial);
		},
	});
	const renewal = new Renewal({
		identity,
		clock,
		rng,
		log,
		renew: async (csr, joinState) => {
			const request = create(RenewCertificateRequestSchema, { csr, joinState });
			return renewedOf(await control.renewCertificate(request, scope.signal), clock.now());
		},
		recover: () => recover({ identity, facts: hardwareFacts(facts), agentVersion: version, log }),
	});
	const { nodeId } = identity;
	const telemetry: Telemetry | undefined = startTelemetry(deps, { nodeId, facts, control, journal, runner });
	if (telemetry !== undefined) scope.use(telemetry);
	const uploader = new OutputUploader({ clock, rng, log, output: runner.output });
	uploader.start(scope.signal);
	control.onConnection((connection) => uploader.setConnection(connection));
	control.onConnection((connection) => side.terminals.setConnection(connection));
	const keeperDeps = { clock, rng, log, name: 'process host', connect: connectHost, user: runner, stopping: signal };
	scope.run('process host', (ended) => keepHost({ ...keeperDeps, ...successionOf(clock, version) }, ended));
	side.start(scope, signal);
	scope.run('link', async (ended) => {
		await hostKnown(devices, clock, ended);
		await control.run(ended);
	});
	scope.run('renewal', (ended) => renewal.run(ended));
	announceReady(deps, control, identity, scope);
	writeStatus(deps, folders, { control, identity, renewal, journal, telemetry, devices, facts }, scope);
	await aborted(signal);
	if (config.tasks.stopHostWithAgent) await stopHost(connectHost, log);
	if (config.terminal.stopHostWithAgent) await side.stop();
}

/** A process host of another release makes room for one of this release once no task is left in it. */
function successionOf(clock: AgentDeps['clock'], version: string) {
	const succession = new Succession(clock, version, () => ownVersion(import.meta.url));
	return {
		watch: (host: SocketProcessHost, left: AbortSignal) => succession.watch(host, left),
		leave: (host: SocketProcessHost) => succession.leave(host),
	};
}

/** Hello says what holds programs to their devices; the host that knows it is there in a moment. */
async function hostKnown(devices: DeviceGuard, clock: Clock, ended: AbortSignal): Promise<void> {
	const enough = new AbortController();
	await Promise.race([devices.known, sleep(clock, HOST_KNOWN_MS_MAX, AbortSignal.any([ended, enough.signal]))]);
	enough.abort();
}

function injectInto(telemetry: Telemetry | undefined, ...fault: Parameters<Telemetry['inject']>): void {
	if (telemetry === undefined) throw new Error('this agent measures nothing (telemetry.enabled)');
	telemetry.inject(...fault);
}

function hostConnector({ clock, config }: AgentDeps, directory: string): () => Promise<SocketProcessHost> {
	const unit = unitOf('processHost', config.core.hosts);
	return () => startProcessHost({ directory, clock, config: hostConfigOf(config), unit });
}

/** Settings of the process host that the agent's configuration decides. */
export function hostConfigOf({ tasks }: AgentConfig): { readonly runningMax: number; readonly spoolBytesMax: number } {
	return { runningMax: tasks.runningMax, spoolBytesMax: tasks.spoolBytes };
}

function renewedOf(answer: RenewCertificateResponse, nowMs: number): RenewedCertificate {
	return { ...answer, serverTimeMs: answer.serverTime === undefined ? nowMs : timestampMs(answer.serverTime) };
}

async function stopHost(connect: () => ReturnType<typeof startProcessHost>, log: Logger): Promise<void> {
	try {
		const host = await connect();
		await host.shutdown(HOST_SHUTDOWN_GRACE_MS);
		await host.closed;
	} catch (error) {
		log.warn('the process host could not be stopped', { error });
	}
}
