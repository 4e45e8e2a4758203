import type { ConfigOf, Schema } from '../kit/config.ts';
import { bool, bytes, duration, int, list, oneOf, optional, path, string } from '../kit/config-fields.ts';
import { LOG_LEVELS } from '../kit/log.ts';
import { HOST_STARTERS } from './platform/host-units.ts';

/** Everything that the owner of a host can set on its agent. What it may *run* is in agent.policy.toml, apart. */
export const AGENT_SCHEMA = {
	core: {
		data: path({
			doc: 'Folder for identity, journal and the process host. Private to the agent.',
			default: '/var/lib/gpuaas/agent',
		}),
		policy: path({
			doc: 'The local policy that the control plane cannot widen.',
			default: '/etc/gpuaas/agent.policy.toml',
		}),
		hosts: oneOf(HOST_STARTERS, {
			doc: 'Who starts process host and pty host: their systemd units, or the agent; auto: the units where it runs as a service beside them.',
			default: 'auto',
		}),
		logLevel: oneOf(LOG_LEVELS, { doc: 'Least severe lines that are written.', default: 'info' }),
	},
	enroll: {
		address: string({
			doc: 'host:port of the enrollment listener.',
			default: '127.0.0.1:9444',
			pattern: /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/,
			expects: 'host:port',
		}),
		tokenFile: optional(
			path({ doc: 'File with a join token; read when there is no identity yet, removed once used.' }),
		),
	},
	link: {
		gateways: list({
			doc: 'host:port of gateways; empty: those named at enrollment.',
			default: [],
			pattern: /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/,
			expects: 'host:port items',
		}),
	},
	tasks: {
		runningMax: int({ doc: 'Tasks that run at once.', default: 512, min: 1, max: 4096 }),
		journalBytes: bytes({
			doc: 'Past this no new task is taken until facts are acknowledged.',
			default: 256 * 1024 * 1024,
			min: 1024 * 1024,
			max: 64 * 1024 ** 3,
		}),
		spoolBytes: bytes({
			doc: 'Disk for output that the control plane has not stored yet.',
			default: 4 * 1024 ** 3,
			min: 1024 * 1024,
			max: 1024 ** 4,
		}),
		rebootAllowed: bool({
			doc: 'Let a task restart this machine, if the policy allows it too. Never in a container.',
			default: false,
		}),
		/** The demo's `up` stops everything; a real agent leaves tasks running. */
		stopHostWithAgent: bool({
			doc: 'End the process host, and with it all tasks, when the agent is stopped by SIGTERM.',
			default: false,
		}),
	},
	gpu: {
		probe: oneOf(['auto', 'on', 'off'], {
			doc: 'Whether a child process asks the NVIDIA driver: auto starts one where the hardware is.',
			default: 'auto',
		}),
		library: string({ doc: "Name or path of the driver's library.", default: 'libnvidia-ml.so.1' }),
		kmsg: path({ doc: 'The kernel log, for XIDs.', default: '/dev/kmsg' }),
		processes: bool({
			doc: 'Report the processes on each GPU: pid, memory, multiprocessors, and the task or terminal that each belongs to.',
			default: false,
		}),
	},
	terminal: {
		channelsMax: int({ doc: 'Terminals, commands, copies and forwards at once.', default: 256, min: 1, max: 256 }),
		/** The demo's `up` stops everything; a real agent leaves shells running. */
		stopHostWithAgent: bool({
			doc: 'End the pty host, and with it all terminals, when the agent is stopped by SIGTERM.',
			default: false,
		}),
	},
	telemetry: {
		enabled: bool({ doc: 'Sample this host and its GPUs and send it.', default: true }),
		periodMs: duration({ doc: 'Until the control plane says otherwise.', default: 15_000, min: 1000, max: 3_600_000 }),
	},
} as const satisfies Schema;

export type AgentConfig = ConfigOf<typeof AGENT_SCHEMA>;
