/**
 * What the positions of TelemetryFrame.values mean, by schema number. Both sides read this table: the agent writes values
 * in its order, the control plane names them for Prometheus. A schema never changes once released; a new one gets a new
 * number. NaN is absent: a source that isn't there is not 0.
 */
export interface TelemetryMetric {
	/** What the agent's sampler calls it. */
	readonly key: string;
	/** Prometheus name: base units, `_total` for counters. */
	readonly name: string;
	readonly type: 'counter' | 'gauge';
	readonly help: string;
	/** Constant labels of this position. */
	readonly labels?: Readonly<Record<string, string>>;
	/** Values outside are refused as absurd. */
	readonly max: number;
}

const cpu = (mode: string): TelemetryMetric => ({
	key: `cpu.${mode}`,
	name: 'gpuaas_node_cpu_seconds_total',
	type: 'counter',
	help: 'CPU time of all cores by mode, from /proc/stat.',
	labels: { mode },
	max: 1e13,
});

const bytes = (key: string, name: string, help: string, labels?: Record<string, string>): TelemetryMetric => ({
	key,
	name,
	type: name.endsWith('_total') ? 'counter' : 'gauge',
	help,
	...(labels === undefined ? {} : { labels }),
	max: 1e19,
});

const pressure = (resource: string, kind: string): TelemetryMetric => ({
	key: `pressure.${resource}.${kind}`,
	name: 'gpuaas_node_pressure_seconds_total',
	type: 'counter',
	help: 'Time that tasks waited for a resource (PSI), from /proc/pressure.',
	labels: { resource, kind },
	max: 1e13,
});

const gauge = (key: string, name: string, help: string, max: number): TelemetryMetric => ({
	key,
	name,
	type: 'gauge',
	help,
	max,
});

/** Schema 1: the host. */
export const HOST_SCHEMA_NUMBER = 1;
export const HOST_SCHEMA: readonly TelemetryMetric[] = Object.freeze([
	...['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'].map(cpu),
	gauge('cpu.count', 'gpuaas_node_cpus', 'CPUs that are online.', 1e5),
	gauge('load.1', 'gpuaas_node_load1', 'Runnable and uninterruptible processes, 1-minute average.', 1e6),
	gauge('load.5', 'gpuaas_node_load5', 'The same over 5 minutes.', 1e6),
	gauge('load.15', 'gpuaas_node_load15', 'The same over 15 minutes.', 1e6),
	bytes('memory.total', 'gpuaas_node_memory_bytes', 'Physical memory.'),
	bytes('memory.available', 'gpuaas_node_memory_available_bytes', 'Memory that new work can have without swapping.'),
	bytes('swap.total', 'gpuaas_node_swap_bytes', 'Swap space.'),
	bytes('swap.free', 'gpuaas_node_swap_free_bytes', 'Unused swap space.'),
	bytes('disk.read', 'gpuaas_node_disk_read_bytes_total', 'Bytes read from whole disks.'),
	bytes('disk.written', 'gpuaas_node_disk_written_bytes_total', 'Bytes written to whole disks.'),
	bytes(
		'network.received',
		'gpuaas_node_network_received_bytes_total',
		'Bytes received on all interfaces but loopback.',
	),
	bytes('network.sent', 'gpuaas_node_network_sent_bytes_total', 'Bytes sent on all interfaces but loopback.'),
	bytes('filesystem.size', 'gpuaas_node_filesystem_bytes', "Size of the file system of the agent's data folder."),
	bytes('filesystem.free', 'gpuaas_node_filesystem_free_bytes', 'Space there for unprivileged users.'),
	pressure('cpu', 'some'),
	pressure('cpu', 'full'),
	pressure('memory', 'some'),
	pressure('memory', 'full'),
	pressure('io', 'some'),
	pressure('io', 'full'),
	gauge('processes.running', 'gpuaas_node_processes_running', 'Processes that want a CPU now.', 1e7),
	gauge('processes.blocked', 'gpuaas_node_processes_blocked', 'Processes in uninterruptible sleep.', 1e7),
	gauge('boot.time', 'gpuaas_node_boot_time_seconds', 'When the kernel started, Unix time.', 1e11),
	gauge('agent.rss', 'gpuaas_agent_resident_memory_bytes', 'Resident memory of the node-agent.', 1e13),
	{
		key: 'agent.cpu',
		name: 'gpuaas_agent_cpu_seconds_total',
		type: 'counter',
		help: 'CPU time of the node-agent.',
		max: 1e13,
	},
	gauge('agent.tasks', 'gpuaas_agent_tasks_running', 'Tasks that the node-agent has running.', 1e6),
	gauge('agent.sample', 'gpuaas_agent_sample_duration_seconds', 'How long taking this sample took.', 1e4),
]);
