import type { Scope } from '../kit/scope.ts';
import { ownVersion } from '../kit/version.ts';
import type { ChannelOpen } from '../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type { AgentDeps } from './agent-deps.ts';
import type { CommandSink } from './control/command-sink.ts';
import { programLooks } from './host-side.ts';
import type { AgentIdentity } from './identity/identity.ts';
import type { Journal } from './journal/journal.ts';
import { passwdAccounts } from './platform/accounts.ts';
import { unitOf } from './platform/host-units.ts';
import { managementRanges } from './platform/management.ts';
import { keepHost } from './process-host/keeper.ts';
import { Succession } from './process-host/succession.ts';
import type { SocketPtyHost } from './pty-host/client.ts';
import { watchHeartbeat } from './pty-host/heartbeat.ts';
import { startPtyHost } from './pty-host/start.ts';
import { foldersOf } from './settings.ts';
import type { DeviceGuard } from './tasks/device-guard.ts';
import type { Policy } from './tasks/policy.ts';
import { ProgramFiles } from './terminal/program-files.ts';
import { Terminals } from './terminal/terminals.ts';

/** Between SIGKILL of a host that didn't answer, and nothing: it is ours, by its lock. */
const kill = (pid: number) => void process.kill(pid, 'SIGKILL');

export interface TerminalSide {
	readonly terminals: Terminals;
	/** Commands about channels go there, others to `sink`. */
	commands(sink: CommandSink): CommandSink;
	/** Until `scope` closes; from `stopping` on a pty host that ends is not replaced. */
	start(scope: Scope, stopping: AbortSignal): void;
	/** Ends the pty host and all terminals. */
	stop(): Promise<void>;
}

const STOPPED = {
	reason: 'TERMINAL_LOST',
	message: 'the agent of the node was stopped, and its terminals with it; open another once it runs again',
} as const;
/** More than a shell gets from its hang-up to its kill, and the way to the control plane and back. */
const TOLD_MS_MAX = 2_000;

export function terminalSide(
	deps: AgentDeps,
	parts: {
		readonly identity: AgentIdentity;
		readonly journal: Journal;
		readonly policy: Policy;
		readonly devices: DeviceGuard;
		readonly sendInventory: (ids: readonly string[]) => boolean;
	},
): TerminalSide {
	const { clock, rng, log, config, version } = deps;
	const helpers = new ProgramFiles();
	const platform = {
		...programLooks,
		findAccount: passwdAccounts(),
		helpers,
		get gateways() {
			return parts.identity.gateways;
		},
		get management() {
			return managementRanges();
		},
	};
	const terminals = new Terminals({ ...parts, clock, log, platform });
	const directory = foldersOf(config).ptyHost;
	const unit = unitOf('ptyHost', config.core.hosts);
	const connect = () => startPtyHost({ directory, clock, config: { channelsMax: config.terminal.channelsMax }, unit });
	return {
		terminals,
		commands: (sink) => withChannels(sink, (opened) => terminals.open(opened)),
		start(scope, stopping) {
			scope.use(helpers);
			const succession = new Succession(clock, version, () => ownVersion(import.meta.url));
			const watch = (host: SocketPtyHost, lost: AbortSignal) =>
				Promise.race([watchHeartbeat(clock, kill, host, lost), succession.watch(host, lost)]);
			const leave = (host: SocketPtyHost) => succession.leave(host);
			const keeper = { clock, rng, log, name: 'pty host', connect, user: terminals, watch, leave, stopping };
			scope.run('pty host', (ended) => keepHost(keeper, ended));
		},
		async stop() {
			try {
				await terminals.endAll(STOPPED, TOLD_MS_MAX);
				await (await connect()).shutdown();
			} catch (error) {
				log.warn('the pty host could not be stopped', { error });
			}
		},
	};
}

/** Each member by its name: what is left out here never reaches the link. */
export function withChannels(sink: CommandSink, open: (opened: ChannelOpen) => void): CommandSink {
	return {
		handle(command) {
			if (command.command.case === 'channelOpen') open(command.command.value);
			else sink.handle(command);
		},
		commit: () => sink.commit?.(),
		takeDeclined: () => sink.takeDeclined(),
		welcomed: (fencingSeq) => sink.welcomed?.(fencingSeq),
		attempts: () => sink.attempts(),
		runningCount: () => sink.runningCount(),
	};
}
