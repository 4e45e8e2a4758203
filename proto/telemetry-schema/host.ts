import { counter, gauge, type MetricUnit, type TelemetryMetric } from './metric.ts';

/** The host's own values, from /proc and /sys, and what telemetry itself costs it. */
const cpu = (mode: string): TelemetryMetric =>
	counter(
		'seconds',
		[`cpu.${mode}`, 'gpuaas_node_cpu_seconds_total'],
		'/proc/stat',
		'CPU time of all cores by mode, from /proc/stat.',
		{ labels: { mode } },
	);

const bytes = (key: string, name: string, source: string, help: string): TelemetryMetric =>
	(name.endsWith('_total') ? counter : gauge)('bytes', [key, name], source, help);

const pressure = (resource: string, kind: string): TelemetryMetric =>
	counter(
		'seconds',
		[`pressure.${resource}.${kind}`, 'gpuaas_node_pressure_seconds_total'],
		`/proc/pressure/${resource}`,
		'Time that tasks waited for a resource (PSI), from /proc/pressure.',
		{ labels: { resource, kind } },
	);

const level = (key: string, name: string, source: string, help: string, max: number, unit: MetricUnit = 'count') =>
	gauge(unit, [key, name], source, help, { max });

/** Schema 1 was nothing but these. */
export const HOST_VALUES_1: readonly TelemetryMetric[] = Object.freeze([
	...['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'].map(cpu),
	level('cpu.count', 'gpuaas_node_cpus', '/proc/stat', 'CPUs that are online.', 1e5),
	level(
		'load.1',
		'gpuaas_node_load1',
		'/proc/loadavg',
		'Runnable and uninterruptible processes, 1-minute average.',
		1e6,
	),
	level('load.5', 'gpuaas_node_load5', '/proc/loadavg', 'The same over 5 minutes.', 1e6),
	level('load.15', 'gpuaas_node_load15', '/proc/loadavg', 'The same over 15 minutes.', 1e6),
	bytes('memory.total', 'gpuaas_node_memory_bytes', '/proc/meminfo', 'Physical memory.'),
	bytes(
		'memory.available',
		'gpuaas_node_memory_available_bytes',
		'/proc/meminfo',
		'Memory that new work can have without swapping.',
	),
	bytes('swap.total', 'gpuaas_node_swap_bytes', '/proc/meminfo', 'Swap space.'),
	bytes('swap.free', 'gpuaas_node_swap_free_bytes', '/proc/meminfo', 'Unused swap space.'),
	bytes('disk.read', 'gpuaas_node_disk_read_bytes_total', '/proc/diskstats', 'Bytes read from whole disks.'),
	bytes('disk.written', 'gpuaas_node_disk_written_bytes_total', '/proc/diskstats', 'Bytes written to whole disks.'),
	bytes(
		'network.received',
		'gpuaas_node_network_received_bytes_total',
		'/proc/net/dev',
		'Bytes received on all interfaces but loopback.',
	),
	bytes(
		'network.sent',
		'gpuaas_node_network_sent_bytes_total',
		'/proc/net/dev',
		'Bytes sent on all interfaces but loopback.',
	),
	bytes(
		'filesystem.size',
		'gpuaas_node_filesystem_bytes',
		'statfs',
		"Size of the file system of the agent's data folder.",
	),
	bytes('filesystem.free', 'gpuaas_node_filesystem_free_bytes', 'statfs', 'Space there for unprivileged users.'),
	pressure('cpu', 'some'),
	pressure('cpu', 'full'),
	pressure('memory', 'some'),
	pressure('memory', 'full'),
	pressure('io', 'some'),
	pressure('io', 'full'),
	level('processes.running', 'gpuaas_node_processes_running', '/proc/stat', 'Processes that want a CPU now.', 1e7),
	level('processes.blocked', 'gpuaas_node_processes_blocked', '/proc/stat', 'Processes in uninterruptible sleep.', 1e7),
	level(
		'boot.time',
		'gpuaas_node_boot_time_seconds',
		'/proc/stat',
		'When the kernel started, Unix time.',
		1e11,
		'seconds',
	),
	level(
		'agent.rss',
		'gpuaas_agent_resident_memory_bytes',
		'getrusage',
		'Resident memory of the node-agent.',
		1e13,
		'bytes',
	),
	counter('seconds', ['agent.cpu', 'gpuaas_agent_cpu_seconds_total'], 'getrusage', 'CPU time of the node-agent.'),
	level('agent.tasks', 'gpuaas_agent_tasks_running', 'agent', 'Tasks that the node-agent has running.', 1e6),
	level(
		'agent.sample',
		'gpuaas_agent_sample_duration_seconds',
		'agent',
		'How long taking this sample took.',
		1e4,
		'seconds',
	),
]);

/** Schema 2: the same and what follows; the order of what was there never changes. */
export const HOST_VALUES_2: readonly TelemetryMetric[] = Object.freeze([
	...HOST_VALUES_1,
	level('files.open', 'gpuaas_node_open_files', '/proc/sys/fs/file-nr', 'File handles in use.', 1e12),
	level('processes.total', 'gpuaas_node_threads', '/proc/loadavg', 'Processes and threads that exist.', 1e9),
	counter(
		'count',
		['oom.kills', 'gpuaas_node_oom_kills_total'],
		'/proc/vmstat',
		'Processes that the kernel killed for memory.',
	),
	counter(
		'count',
		['memory.major_faults', 'gpuaas_node_major_page_faults_total'],
		'/proc/vmstat',
		'Page faults that waited for a disk.',
	),
	level(
		'memory.corrected',
		'gpuaas_node_memory_ecc_corrected',
		'/sys/devices/system/edac/mc',
		'Corrected ECC errors of host memory since boot.',
		1e15,
	),
	level(
		'memory.uncorrected',
		'gpuaas_node_memory_ecc_uncorrected',
		'/sys/devices/system/edac/mc',
		'Uncorrected ECC errors of host memory since boot.',
		1e15,
	),
	level('numa.nodes', 'gpuaas_node_numa_nodes', '/sys/devices/system/node', 'NUMA nodes.', 4096),
	level(
		'numa.free_min',
		'gpuaas_node_numa_free_min_bytes',
		'/sys/devices/system/node',
		'Free memory of the NUMA node that has the least.',
		1e16,
		'bytes',
	),
	gauge(
		'celsius',
		['temperature.cpu', 'gpuaas_node_cpu_temperature_celsius'],
		'/sys/class/hwmon',
		'Hottest CPU sensor.',
	),
	gauge(
		'celsius',
		['temperature.board', 'gpuaas_node_board_temperature_celsius'],
		'/sys/class/hwmon',
		'Hottest sensor that is neither CPU, disk nor GPU.',
	),
	level(
		'fan.min',
		'gpuaas_node_fan_min_rpm',
		'/sys/class/hwmon',
		'Slowest fan that reports, revolutions per minute.',
		1e6,
	),
	gauge('watts', ['power.board', 'gpuaas_node_power_watts'], '/sys/class/hwmon', 'Power meter of the machine (ACPI).'),
	level(
		'probe.state',
		'gpuaas_agent_probe_state',
		'agent',
		'GPU probe: 1 no NVIDIA hardware, 2 starting, 3 running, 4 slow, 5 hung, 6 quiesced, 7 unavailable, 8 restarting.',
		16,
		'state',
	),
	level(
		'probe.rss',
		'gpuaas_agent_probe_resident_memory_bytes',
		'probe',
		'Resident memory of the GPU probe.',
		1e13,
		'bytes',
	),
	counter('seconds', ['probe.cpu', 'gpuaas_agent_probe_cpu_seconds_total'], 'probe', 'CPU time of the GPU probe.'),
	level(
		'probe.age',
		'gpuaas_agent_probe_age_seconds',
		'agent',
		'How old the GPU values of this frame are.',
		1e9,
		'seconds',
	),
	level(
		'probe.sample',
		'gpuaas_agent_probe_sample_seconds',
		'probe',
		'How long the newest sample of all GPUs took.',
		1e4,
		'seconds',
	),
	level(
		'probe.call_max',
		'gpuaas_agent_probe_call_max_seconds',
		'probe',
		'The slowest single call in it.',
		1e4,
		'seconds',
	),
	counter(
		'count',
		['probe.restarts', 'gpuaas_agent_probe_restarts_total'],
		'agent',
		'Starts of the GPU probe after the first.',
	),
	counter(
		'count',
		['probe.misses', 'gpuaas_agent_probe_misses_total'],
		'agent',
		'Samples that the GPU probe did not deliver within their deadline.',
	),
	level(
		'agent.loop_delay',
		'gpuaas_agent_eventloop_delay_max_seconds',
		'agent',
		'Longest delay of the event loop of the node-agent since the last sample.',
		1e4,
		'seconds',
	),
	level('ring.bytes', 'gpuaas_agent_history_bytes', 'agent', 'Memory of the telemetry ring.', 1e12, 'bytes'),
	counter(
		'count',
		['facts.suppressed', 'gpuaas_agent_facts_suppressed_total'],
		'agent',
		'Health facts that were counted instead of sent, because too many came.',
	),
	gauge(
		'bool',
		['fabric_manager.running', 'gpuaas_node_fabric_manager_running'],
		'/sys/fs/cgroup',
		'NVIDIA fabric manager runs. Absent where it is not installed or nothing needs it.',
	),
]);
