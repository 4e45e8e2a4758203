import { durationMs, timestampMs } from '@bufbuild/protobuf/wkt';
import type { ProbeQuiesce, TelemetryPlan } from '../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { HistoryQuery } from '../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { Control } from './control/session.ts';
import type { Journal } from './journal/journal.ts';
import type { PlatformFacts } from './platform/facts.ts';
import { readMachineFacts } from './platform/machine-facts.ts';
import { cgroupBaseOf } from './process-host/cgroup-base.ts';
import { runningChannels } from './pty-host/reap.ts';
import { type AgentFolders, foldersOf } from './settings.ts';
import type { TaskRunner } from './tasks/runner.ts';
import type { ProcessOwner } from './telemetry/process-owners.ts';
import { Telemetry } from './telemetry/telemetry.ts';

/** Telemetry of this agent, as the configuration wants it. */
export function startTelemetry(
	deps: AgentDeps,
	parts: {
		readonly nodeId: string;
		readonly facts: PlatformFacts;
		readonly control: Control;
		readonly journal: Journal;
		readonly runner: Pick<TaskRunner, 'runningCount' | 'leaders'>;
	},
): Telemetry | undefined {
	const { config, clock, rng, log } = deps;
	const { nodeId, facts, control, journal, runner } = parts;
	if (!config.telemetry.enabled) return undefined;
	return new Telemetry({
		clock,
		rng,
		log,
		nodeId,
		bootId: facts.bootId,
		dataFolder: config.core.data,
		plan: { periodMs: config.telemetry.periodMs, fastPeriodMs: 0, fastUntilMs: 0 },
		gpu: {
			mode: config.gpu.probe,
			library: config.gpu.library,
			folder: foldersOf(config).probe,
			processes: config.gpu.processes,
		},
		disks: { folder: foldersOf(config).disks },
		kmsgPath: config.gpu.kmsg,
		runningTasks: () => runner.runningCount(),
		processOwners: () => processOwners(foldersOf(config), runner),
		readMachine: readMachineFacts,
		journal,
		send: (frame) => control.sendTelemetry(frame),
	});
}

function processOwners(
	{ processHost, ptyHost }: AgentFolders,
	runner: Pick<TaskRunner, 'leaders'>,
): readonly ProcessOwner[] {
	const [tasksBase, terminalsBase] = [processHost, ptyHost].map((directory) => cgroupBaseOf(directory, '/proc'));
	return [
		...runner.leaders().map(({ taskId: id, box, pid: leaderPid }) => ({
			...{ kind: 'task' as const, id, box, base: tasksBase, leaderPid },
		})),
		...runningChannels(ptyHost).map(({ id, pid: leaderPid }) => ({
			...{ kind: 'terminal' as const, id, box: id, base: terminalsBase, leaderPid },
		})),
	];
}

/** What the control plane asks of telemetry. Times in it are the server's: they are moved to this host's clock. */
export function telemetryCommands(
	telemetry: () => Telemetry | undefined,
	control: () => Control,
	log: AgentDeps['log'],
): {
	readonly onTelemetryPlan: (plan: TelemetryPlan) => void;
	readonly onHistoryQuery: (query: HistoryQuery) => void;
	readonly onProbeQuiesce: (quiesce: ProbeQuiesce) => void;
	readonly telemetryDropped: () => number;
} {
	const ours = (serverMs: number) => serverMs - (control().state().clockOffsetMs ?? 0);
	return {
		onTelemetryPlan: ({ period, fastPeriod, fastUntil }) =>
			telemetry()?.setPlan({
				periodMs: period === undefined ? 15_000 : durationMs(period),
				fastPeriodMs: fastPeriod === undefined ? 0 : durationMs(fastPeriod),
				fastUntilMs: fastUntil === undefined ? 0 : ours(timestampMs(fastUntil)),
			}),
		onHistoryQuery: (query) => {
			const answer = telemetry()?.answer(query);
			if (answer !== undefined) control().sendHistoryAnswer(answer);
		},
		onProbeQuiesce: ({ until, reason }) => {
			const untilMs = until === undefined ? 0 : ours(timestampMs(until));
			log.info('the driver is wanted by somebody else', { reason, untilMs });
			void telemetry()?.quiesce(untilMs);
		},
		telemetryDropped: () => Number(telemetry()?.dropped ?? 0n),
	};
}
