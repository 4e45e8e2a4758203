import { IB_PORT_VALUES } from '../../proto/telemetry-schema/links.ts';
import type { Part } from './part.ts';
import { listFolder, readNumber, readText } from './text-files.ts';

/** Ports of InfiniBand and RoCE devices from /sys/class/infiniband: state, speed, traffic, errors. */
const PORTS_MAX = 256;
const GIGABIT_BYTES = 1e9 / 8;
/** port_xmit_data counts in words of four bytes (InfiniBand Architecture, volume 1, 16.1.3.5). */
const WORD_BYTES = 4;

export function sampleIbPorts(sysRoot: string): readonly Part[] {
	const root = `${sysRoot}/class/infiniband`;
	const ports: Part[] = [];
	for (const device of listFolder(root)) {
		for (const number of listFolder(`${root}/${device}/ports`)) {
			if (ports.length === PORTS_MAX) return ports;
			ports.push({ id: device, index: Number(number), values: readPort(`${root}/${device}/ports/${number}`) });
		}
	}
	return ports;
}

function readPort(folder: string): Float64Array {
	const values = new Float64Array(IB_PORT_VALUES.length);
	for (const [at, { key }] of IB_PORT_VALUES.entries()) values[at] = readValue(folder, key);
	return values;
}

function readValue(folder: string, key: string): number {
	switch (key) {
		case 'state':
			return readNumber(`${folder}/state`);
		case 'physical_state':
			return readNumber(`${folder}/phys_state`);
		case 'rate':
			return Number.parseFloat(readText(`${folder}/rate`) ?? '') * GIGABIT_BYTES;
		case 'tx':
			return readNumber(`${folder}/counters/port_xmit_data`) * WORD_BYTES;
		case 'rx':
			return readNumber(`${folder}/counters/port_rcv_data`) * WORD_BYTES;
		default:
			return readNumber(`${folder}/counters/${key.replace(/^errors\./, '')}`);
	}
}
