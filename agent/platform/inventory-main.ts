import si from 'systeminformation';

/**
 * What the machine's firmware says of its parts, as one line of JSON: a short-lived child of the agent, because
 * systeminformation starts programs (dmidecode, lscpu), can block for seconds, and had injections in calls that we don't
 * make. Only the calls below are allowed; never graphics() or networkInterfaces().
 */
const [system, baseboard, bios, cpu, memory, os] = await Promise.all([
	si.system(),
	si.baseboard(),
	si.bios(),
	si.cpu(),
	si.memLayout(),
	si.osInfo(),
]);

process.stdout.write(
	`${JSON.stringify({
		board: {
			vendor: system.manufacturer,
			product: system.model,
			serial: system.serial,
			boardVendor: baseboard.manufacturer,
			boardProduct: baseboard.model,
			boardSerial: baseboard.serial,
			biosVersion: bios.version,
			biosDate: bios.releaseDate,
		},
		cpu: {
			model: `${cpu.manufacturer} ${cpu.brand}`.trim(),
			sockets: cpu.processors || 1,
			cores: cpu.physicalCores,
			threads: cpu.cores,
		},
		// Without dmidecode one entry stands for all of the memory: that is no module.
		memory: memory
			.filter(({ bank }) => bank !== '')
			.map(({ bank, size, type, clockSpeed, manufacturer, partNum, serialNum }) => ({
				slot: bank,
				bytes: size,
				kind: type,
				speedMts: clockSpeed ?? 0,
				manufacturer: manufacturer ?? '',
				partNumber: partNum ?? '',
				serial: serialNum ?? '',
			})),
		os: `${os.distro} ${os.release}`.trim(),
	})}\n`,
);
