import { mkdir } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import { durationMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { Logger } from '../kit/log.ts';
import { aborted, Scope } from '../kit/scope.ts';
import {
	RenewCertificateRequestSchema,
	type RenewCertificateResponse,
	type TelemetryPlan,
} from '../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { AgentConfig } from './config.ts';
import { CONTROL_LIMITS_DEFAULT } from './control/control-deps.ts';
import { GrpcTransport } from './control/grpc-transport.ts';
import { OutputUploader } from './control/output-uploader.ts';
import { Control } from './control/session.ts';
import { hostFacts, readPolicy, runnerPlatform } from './host-side.ts';
import { hardwareFacts, identify } from './identify.ts';
import { recover } from './identity/enroll.ts';
import type { AgentIdentity } from './identity/identity.ts';
import { Renewal, type RenewedCertificate } from './identity/renewal.ts';
import { SqliteJournal } from './journal/sqlite.ts';
import { readPlatformFacts } from './platform/facts.ts';
import { startProcessHost } from './process-host/start.ts';
import { announceReady, writeStatus } from './reporting.ts';
import { foldersOf } from './settings.ts';
import { keepHost } from './tasks/host-keeper.ts';
import { TaskRunner } from './tasks/runner.ts';
import { RUNNER_LIMITS_DEFAULT } from './tasks/runner-deps.ts';
import { sampleHost } from './telemetry/host.ts';
import { TelemetrySampler } from './telemetry/sampler.ts';

/** Between SIGTERM and SIGKILL of tasks that end with the agent. */
const HOST_SHUTDOWN_GRACE_MS = 3000;

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
	const runner = scope.use(
		new TaskRunner({
			clock,
			log,
			identity,
			journal,
			policy: readPolicy(config.core.policy, log),
			platform: runnerPlatform(facts, deps),
			limits: RUNNER_LIMITS_DEFAULT,
		}),
	);
	const connectHost = () => startProcessHost({ directory: folders.processHost, clock, config: hostConfigOf(config) });

	const control: Control = new Control({
		clock,
		rng,
		log,
		transport: new GrpcTransport(clock),
		identity,
		journal,
		commands: runner,
		host: hostFacts(deps, facts),
		limits: CONTROL_LIMITS_DEFAULT,
		onRenewNow: (reason) => renewal.renewNow(reason),
		onTelemetryPlan: (plan) => sampler?.setPlan(planOf(plan)),
		telemetryDropped: () => Number(sampler?.dropped ?? 0n),
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
	const sampler = config.telemetry.enabled ? startSampler(config, deps, identity, control, runner) : undefined;
	if (sampler !== undefined) scope.use(sampler);
	const uploader = new OutputUploader({ clock, rng, log, output: runner.output });
	uploader.start(scope.signal);
	control.onConnection((connection) => uploader.setConnection(connection));

	scope.run('process host', (ended) => keepHost({ clock, rng, log, connect: connectHost, runner }, ended));
	scope.run('link', (ended) => control.run(ended));
	scope.run('renewal', (ended) => renewal.run(ended));
	announceReady(deps, control, identity, scope);
	writeStatus(deps, folders, { control, identity, renewal, journal }, scope);
	await aborted(signal);
	if (config.tasks.stopHostWithAgent) await stopHost(connectHost, log);
}

/** Settings of the process host that the agent's configuration decides. */
export function hostConfigOf({ tasks }: AgentConfig): { readonly runningMax: number; readonly spoolBytesMax: number } {
	return { runningMax: tasks.runningMax, spoolBytesMax: tasks.spoolBytes };
}

function renewedOf(answer: RenewCertificateResponse, nowMs: number): RenewedCertificate {
	return { ...answer, serverTimeMs: answer.serverTime === undefined ? nowMs : timestampMs(answer.serverTime) };
}

function planOf(plan: TelemetryPlan) {
	return {
		periodMs: plan.period === undefined ? 15_000 : durationMs(plan.period),
		fastPeriodMs: plan.fastPeriod === undefined ? 0 : durationMs(plan.fastPeriod),
		fastUntilMs: plan.fastUntil === undefined ? 0 : timestampMs(plan.fastUntil),
	};
}

function startSampler(
	config: AgentConfig,
	deps: AgentDeps,
	identity: AgentIdentity,
	control: Control,
	runner: TaskRunner,
): TelemetrySampler {
	const sources = {
		procRoot: '/proc',
		sysRoot: '/sys',
		dataFolder: config.core.data,
		clock: deps.clock,
		runningTasks: () => runner.runningCount(),
	};
	return new TelemetrySampler(
		{
			clock: deps.clock,
			nodeId: identity.nodeId,
			sample: () => sampleHost(sources),
			send: (frame) => control.sendTelemetry(frame),
		},
		{ periodMs: config.telemetry.periodMs, fastPeriodMs: 0, fastUntilMs: 0 },
	);
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
