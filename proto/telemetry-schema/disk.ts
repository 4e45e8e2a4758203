import { type AsOf, counter, gauge, type TelemetryMetric } from './metric.ts';

/** It is read each hour; only of a disk that sleeps it becomes as old as this, and sleeping wears nothing. */
const asOf: AsOf = Object.freeze({ ageKey: 'smart.age', exportedForSeconds: 86_400 });
/** It changes in minutes. As long as Prometheus itself looks back. */
const TEMPERATURE: AsOf = Object.freeze({ ageKey: 'smart.age', exportedForSeconds: 300 });

/**
 * A whole disk, named by its serial where it has one. In one frame of four; what the disk says of itself is read each
 * hour, and `smart.age` tells how long ago that was.
 */
export const DISK_VALUES: readonly TelemetryMetric[] = Object.freeze([
	counter('bytes', ['read', 'gpuaas_disk_read_bytes_total'], '/proc/diskstats', 'Bytes read.'),
	counter('bytes', ['written', 'gpuaas_disk_written_bytes_total'], '/proc/diskstats', 'Bytes written.'),
	counter('seconds', ['busy', 'gpuaas_disk_busy_seconds_total'], '/proc/diskstats', 'Time with requests in flight.'),
	gauge(
		'celsius',
		['temperature', 'gpuaas_disk_temperature_celsius'],
		'/sys/class/hwmon',
		'Temperature of the disk now.',
	),
	gauge(
		'ratio',
		['wear', 'gpuaas_disk_wear_ratio'],
		'NVMe SMART percentage_used; smartctl endurance_used, SAS endurance indicator, ATA attributes of life left',
		'Share of the rated endurance that is used; more than 1 is possible.',
		{ max: 2.55, asOf },
	),
	gauge('ratio', ['spare', 'gpuaas_disk_spare_ratio'], 'NVMe SMART available_spare', 'Spare blocks that are left.', {
		max: 1.01,
		asOf,
	}),
	counter(
		'count',
		['media_errors', 'gpuaas_disk_media_errors_total'],
		'NVMe SMART media_errors; SAS scsi_error_counter_log',
		'Data that could not be read back.',
		{ asOf },
	),
	gauge(
		'bitmask',
		['critical_warning', 'gpuaas_disk_critical_warning'],
		'NVMe SMART critical_warning',
		'1 spare low, 2 temperature, 4 reliability, 8 read-only, 16 backup failed.',
		{ max: 255, asOf },
	),
	gauge('bool', ['live', 'gpuaas_disk_live'], '/sys/class/nvme/*/state', 'The controller is live.'),
	gauge(
		'state',
		['smart', 'gpuaas_disk_smart'],
		'agent',
		'Whether the disk says how it is: 1 yes, 2 it sleeps (values of before), 3 smartctl is not installed, 4 it has no SMART or what is before it passes none on, 5 it could not be read, 6 it does not answer.',
		{ max: 16 },
	),
	gauge('bool', ['passed', 'gpuaas_disk_smart_passed'], 'smartctl smart_status', 'The disk calls itself well.', {
		asOf,
	}),
	gauge(
		'count',
		['reallocated', 'gpuaas_disk_reallocated_sectors'],
		'ATA attribute 5; SAS grown defect list',
		'Sectors that were replaced by spare ones.',
		{ asOf },
	),
	gauge(
		'count',
		['pending', 'gpuaas_disk_pending_sectors'],
		'ATA attribute 197; SAS pending defects',
		'Sectors that could not be read and wait for being written.',
		{ asOf },
	),
	gauge(
		'count',
		['uncorrectable', 'gpuaas_disk_uncorrectable_sectors'],
		'ATA attribute 198',
		'Sectors that a scan of its own found unreadable.',
		{ asOf },
	),
	counter(
		'seconds',
		['power_on', 'gpuaas_disk_power_on_seconds_total'],
		'NVMe SMART power_on_hours; smartctl power_on_time',
		'Time that the disk was on.',
		{ asOf },
	),
	counter(
		'count',
		['errors_logged', 'gpuaas_disk_errors_logged_total'],
		'NVMe SMART num_err_log_entries; ATA error log',
		'Commands that failed, by the log of the disk.',
		{ asOf },
	),
	gauge(
		'celsius',
		['smart.temperature', 'gpuaas_disk_smart_temperature_celsius'],
		'smartctl temperature',
		'Temperature when the disk was asked, as long as that is no more than 5 minutes ago.',
		{ asOf: TEMPERATURE },
	),
	gauge(
		'seconds',
		['smart.age', 'gpuaas_disk_smart_age_seconds'],
		'agent',
		'Time since the disk said what it says here.',
	),
]);
