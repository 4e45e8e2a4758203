/** Documents in the form of smartctl's --json, as far as disks of each kind have it. The disks are made up. */
const head = (exitStatus: number, messages: readonly string[] = [], severity = 'error') => ({
	json_format_version: [1, 0],
	smartctl: {
		version: [7, 3],
		argv: ['smartctl', '--json=c', '--all', '--nocheck=standby', '/dev/sda'],
		...(messages.length === 0 ? {} : { messages: messages.map((string) => ({ string, severity })) }),
		exit_status: exitStatus,
	},
});

const attribute = (id: number, name: string, value: number, raw: number, string = String(raw)) => ({
	...{ id, name, value, worst: value, thresh: 0, when_failed: '' },
	raw: { value: raw, string },
});

const ata = (attributes: readonly object[], isWell: boolean, isSsd: boolean) => ({
	device: { name: '/dev/sda', info_name: '/dev/sda [SAT]', type: 'sat', protocol: 'ATA' },
	rotation_rate: isSsd ? 0 : 7200,
	smart_support: { available: true, enabled: true },
	smart_status: { passed: isWell },
	ata_smart_attributes: { revision: 16, table: attributes },
	ata_smart_error_log: { extended: { revision: 1, count: 3, sectors: 64 } },
	power_on_time: { hours: 31_000, minutes: 12 },
	temperature: { current: 34 },
});

/** Bit 6 of its status: the error log has entries. Attribute 5 packs two counts, 194 three. */
export const SATA_DISK = {
	...head(64),
	...ata(
		[
			attribute(1, 'Raw_Read_Error_Rate', 80, 104_283_232),
			attribute(5, 'Reallocated_Sector_Ct', 99, 4_295_032_840, '72 (1 0)'),
			attribute(194, 'Temperature_Celsius', 34, 137_441_312_802, '34 (0 14 0 32 0)'),
			attribute(197, 'Current_Pending_Sector', 100, 8),
			attribute(198, 'Offline_Uncorrectable', 100, 2),
		],
		true,
		false,
	),
};

/** The same, that says of itself that it fails within a day (bit 3). */
export const SATA_FAILING = { ...SATA_DISK, ...head(8 | 64), smart_status: { passed: false } };

/** 231 is a temperature with some vendors, 177 life left with others: the name decides. */
export const SATA_SSD = {
	...head(0),
	...ata(
		[
			attribute(5, 'Reallocated_Sector_Ct', 100, 0),
			attribute(177, 'Wear_Leveling_Count', 91, 152),
			attribute(231, 'Temperature_Celsius', 66, 34),
			attribute(198, 'Host_Reads_GiB', 100, 90_210),
		],
		true,
		true,
	),
};

/** From 7.4 on smartctl works out the wear itself. */
export const SATA_SSD_NEWER = { ...SATA_SSD, endurance_used: { current_percent: 12 } };

export const SAS_DISK = {
	...head(4),
	device: { name: '/dev/sdb', info_name: '/dev/sdb', type: 'scsi', protocol: 'SCSI' },
	smart_support: { available: true, enabled: true },
	smart_status: { passed: true },
	temperature: { current: 35, drive_trip: 74 },
	power_on_time: { hours: 3862, minutes: 30 },
	scsi_grown_defect_list: 5,
	scsi_pending_defects: { count: 1 },
	scsi_percentage_used_endurance_indicator: 3,
	scsi_error_counter_log: {
		read: { total_errors_corrected: 900, gigabytes_processed: '12345.678', total_uncorrected_errors: 2 },
		write: { total_errors_corrected: 0, gigabytes_processed: '2345.678', total_uncorrected_errors: 1 },
	},
};

export const ASLEEP = {
	...head(2, ['Device is in STANDBY mode, exit(2)'], 'information'),
	device: { name: '/dev/sda', info_name: '/dev/sda [SAT]', type: 'sat', protocol: 'ATA' },
};
export const USB_BRIDGE = head(1, ['/dev/sdc: Unknown USB bridge [0x048d:0x1234 (0x200)]']);
export const NOT_PERMITTED = head(2, ['Smartctl open device: /dev/sda failed: Permission denied']);
/** A volume of a RAID controller. */
export const RAID_VOLUME = {
	...head(4),
	device: { name: '/dev/sda', info_name: '/dev/sda', type: 'scsi', protocol: 'SCSI' },
	smart_support: { available: false },
	temperature: { current: 0, drive_trip: 0 },
};
