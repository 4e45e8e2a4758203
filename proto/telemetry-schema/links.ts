import { counter, gauge, type MetricUnit, type TelemetryMetric } from './metric.ts';

/** Links between things: an NVLink of a GPU, a port of an InfiniBand (or RoCE) device. In one frame of four. */
const make =
	(prefix: string) =>
	(unit: MetricUnit, key: string, name: string, source: string, help: string, extra: Partial<TelemetryMetric> = {}) =>
		(name.endsWith('_total') ? counter : gauge)(unit, [key, `${prefix}_${name}`], source, help, extra);

const nvlink = make('gpuaas_nvlink');
const port = make('gpuaas_ib_port');

const nvlinkError = (kind: string, field: number) =>
	nvlink('count', `errors.${kind}`, 'errors_total', `FI ${field}`, 'Errors of the link by kind.', { labels: { kind } });

export const NVLINK_VALUES: readonly TelemetryMetric[] = Object.freeze([
	nvlink('bool', 'up', 'up', 'nvmlDeviceGetNvLinkState', 'The link is active.'),
	nvlink('state', 'version', 'version', 'nvmlDeviceGetNvLinkVersion', 'Generation of the link.', { max: 64 }),
	nvlink('bytes_per_second', 'speed', 'speed_bytes_per_second', 'FI 164', 'Speed of the link.'),
	nvlink('bytes', 'tx', 'transmitted_bytes_total', 'FI 138 (NVLink 5: FI 202)', 'Data sent.'),
	nvlink('bytes', 'rx', 'received_bytes_total', 'FI 139 (NVLink 5: FI 204)', 'Data received.'),
	nvlinkError('replay', 161),
	nvlinkError('recovery', 162),
	nvlinkError('crc', 163),
	nvlinkError('malformed', 206),
	nvlinkError('buffer_overrun', 207),
	nvlinkError('receive', 208),
	nvlinkError('receive_remote', 209),
	nvlinkError('receive_general', 210),
	nvlinkError('local_integrity', 211),
	nvlinkError('transmit_discard', 212),
	nvlinkError('recovery_succeeded', 213),
	nvlinkError('recovery_failed', 214),
	nvlinkError('effective', 219),
	nvlinkError('symbol', 221),
	nvlink('ratio', 'ber.effective', 'effective_bit_error_ratio', 'FI 220', 'Bit error rate after correction.'),
	nvlink('ratio', 'ber.symbol', 'symbol_bit_error_ratio', 'FI 222', 'Bit error rate of symbols.'),
	nvlink(
		'count',
		'fec.high',
		'fec_high_total',
		'FI 243-250',
		'Blocks that needed the upper half of the correction bins.',
	),
]);

const portError = (kind: string) =>
	port(
		'count',
		`errors.${kind}`,
		'errors_total',
		`/sys/class/infiniband/*/ports/*/counters/${kind}`,
		'Errors of the port by kind.',
		{ labels: { kind } },
	);

export const IB_PORT_VALUES: readonly TelemetryMetric[] = Object.freeze([
	port(
		'state',
		'state',
		'state',
		'/sys/class/infiniband/*/ports/*/state',
		'1 down, 2 initialising, 3 armed, 4 active, 5 active deferred.',
		{ max: 16 },
	),
	port(
		'state',
		'physical_state',
		'physical_state',
		'/sys/class/infiniband/*/ports/*/phys_state',
		'1 sleep, 2 polling, 3 disabled, 4 training, 5 link up, 6 link error recovery.',
		{ max: 16 },
	),
	port(
		'bytes_per_second',
		'rate',
		'rate_bytes_per_second',
		'/sys/class/infiniband/*/ports/*/rate',
		'Speed of the port.',
	),
	port(
		'bytes',
		'tx',
		'transmitted_bytes_total',
		'/sys/class/infiniband/*/ports/*/counters/port_xmit_data',
		'Bytes sent.',
	),
	port(
		'bytes',
		'rx',
		'received_bytes_total',
		'/sys/class/infiniband/*/ports/*/counters/port_rcv_data',
		'Bytes received.',
	),
	...[
		'link_downed',
		'link_error_recovery',
		'symbol_error',
		'port_rcv_errors',
		'port_rcv_remote_physical_errors',
		'port_xmit_discards',
		'local_link_integrity_errors',
		'excessive_buffer_overrun_errors',
		'port_xmit_wait',
	].map(portError),
]);
