import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { GPU_SLOW_VALUES } from '../../proto/telemetry-schema/gpu-slow.ts';
import { IB_PORT_VALUES, NVLINK_VALUES } from '../../proto/telemetry-schema/links.ts';
import type { ProbeSample } from '../probe/protocol.ts';
import type { Level } from './level-watch.ts';
import type { Part } from './part.ts';
import { readText } from './text-files.ts';
import { positions } from './watched-values.ts';

/** What level-watch.ts watches: NVLinks that are up on each GPU, the speed of each InfiniBand port that is active. */
const CODE_LENGTH_MAX = 64;
const GIGABIT_BYTES = 1e9 / 8;
const ACTIVE_STATE = 4;

const at = (table: Parameters<typeof positions>[0], key: string) => positions(table).get(key) ?? -1;
const ACTIVE = at(GPU_VALUES, 'nvlink.active');
const LINKS = at(GPU_SLOW_VALUES, 'nvlink.links');
const MIG = at(GPU_SLOW_VALUES, 'mig.enabled');
const UP = at(NVLINK_VALUES, 'up');
const STATE = at(IB_PORT_VALUES, 'state');
const RATE = at(IB_PORT_VALUES, 'rate');

/** `models`: by UUID. None of a fast sample, of a GPU without links, and of one whose instances use none (MIG). */
export function nvlinkLevels({ gpus, slow }: ProbeSample, models: ReadonlyMap<string, string>): readonly Level[] {
	if (slow === undefined) return [];
	const slowRows = new Map(slow.gpus.map((part) => [part.id, part.values]));
	return gpus.flatMap(({ id, values }): readonly Level[] => {
		const value = values[ACTIVE] ?? Number.NaN;
		const row = slowRows.get(id);
		const links = row?.[LINKS] ?? Number.NaN;
		const model = models.get(id);
		if (model === undefined || Number.isNaN(value) || !(links > 0) || row?.[MIG] === 1) return [];
		const down = slow.nvlinks.filter((link) => link.id === id && link.values[UP] === 0).map(({ index }) => index);
		const which = down.length === 0 ? '' : `; down: ${down.join(', ')}`;
		const raw = `${value} of the ${links} NVLinks of ${model} are up${which}`;
		return [{ id, index: 0, code: model.slice(0, CODE_LENGTH_MAX), value, isShort: value < links, raw }];
	});
}

/** A port that is down shows the speed that it would begin with: its state says enough. */
export function portRateLevels(sysRoot: string, ports: readonly Part[]): readonly Level[] {
	return ports.flatMap(({ id, index, values }): readonly Level[] => {
		const value = values[RATE] ?? Number.NaN;
		if (values[STATE] !== ACTIVE_STATE || Number.isNaN(value)) return [];
		const folder = `${sysRoot}/class/infiniband/${id}`;
		const board = readText(`${folder}/board_id`) || readText(`${folder}/hca_type`) || 'unknown';
		// RoCE and InfiniBand of one board are different networks.
		const layer = readText(`${folder}/ports/${index}/link_layer`) === 'Ethernet' ? ':ethernet' : '';
		const raw = `the port runs at ${value / GIGABIT_BYTES} Gb/s`;
		return [{ id, index, code: `${board}${layer}`.slice(0, CODE_LENGTH_MAX), value, isShort: false, raw }];
	});
}
