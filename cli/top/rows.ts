import { HealthState } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { ProbeState } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { GpuGlance, NodeGlance } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { stateName } from '../health/show-verdict.ts';

/** What `top` shows of the fleet: one row a GPU (or MIG device), or one a node. */
export type TopView = 'gpus' | 'nodes';
export type SortKey = 'name' | 'utilisation' | 'memory' | 'power' | 'temperature';

export interface TopRow {
	readonly node: string;
	/** GPU number, MIG profile, or how many GPUs. */
	readonly gpu: string;
	readonly model: string;
	readonly utilisation: number | undefined;
	readonly memoryUsed: number | undefined;
	readonly memoryTotal: number | undefined;
	readonly power: number | undefined;
	readonly powerLimit: number | undefined;
	readonly temperature: number | undefined;
	readonly clock: number | undefined;
	readonly ageSeconds: number | undefined;
	/** What a person should know first: lost, hung, stale, an XID. */
	readonly note: string;
	readonly isBad: boolean;
	readonly isSimulated: boolean;
}

export function rowsOf(nodes: readonly NodeGlance[], view: TopView): TopRow[] {
	return view === 'nodes' ? nodes.map(nodeRow) : nodes.flatMap(gpuRows);
}

export function sortRows(rows: readonly TopRow[], key: SortKey, isReversed: boolean): TopRow[] {
	const value: Readonly<Record<SortKey, (row: TopRow) => number | undefined>> = {
		name: () => undefined,
		utilisation: (row) => row.utilisation,
		memory: (row) => row.memoryUsed,
		power: (row) => row.power,
		temperature: (row) => row.temperature,
	};
	const of = value[key];
	const byName = (a: TopRow, b: TopRow) =>
		a.node.localeCompare(b.node, 'en', { numeric: true }) || a.gpu.localeCompare(b.gpu, 'en', { numeric: true });
	// What isn't measured comes last, whatever the direction.
	const compare = (a: TopRow, b: TopRow) => {
		const [left, right] = [of(a), of(b)];
		if (left === undefined || right === undefined)
			return Number(left === undefined) - Number(right === undefined) || byName(a, b);
		return (isReversed ? left - right : right - left) || byName(a, b);
	};
	const sorted = [...rows].sort(compare);
	return key === 'name' && isReversed ? sorted.reverse() : sorted;
}

function gpuRows(node: NodeGlance): TopRow[] {
	if (node.gpus.length === 0) return [{ ...nodeRow(node), gpu: '-' }];
	return node.gpus.map((gpu) => ({
		node: node.name,
		gpu: gpu.profile === '' ? String(gpu.index) : `${gpu.index} ${gpu.profile}`,
		model: gpu.model.replace(/^NVIDIA /, ''),
		utilisation: gpu.utilisation ?? gpu.active,
		memoryUsed: gpu.memoryUsedBytes,
		memoryTotal: gpu.memoryBytes,
		power: gpu.powerWatts,
		powerLimit: gpu.powerLimitWatts,
		temperature: gpu.temperatureCelsius,
		clock: gpu.smClockHertz,
		ageSeconds: node.ageSeconds,
		...noteOf(node, gpu),
		isSimulated: node.simulated,
	}));
}

function nodeRow(node: NodeGlance): TopRow {
	const whole = node.gpus.filter(({ profile }) => profile === '');
	const known = (of: (gpu: GpuGlance) => number | undefined) => whole.map(of).filter((value) => value !== undefined);
	const sum = (of: (gpu: GpuGlance) => number | undefined) => {
		const values = known(of);
		return values.length === 0 ? undefined : values.reduce((total, value) => total + value, 0);
	};
	const use = known((gpu) => gpu.utilisation ?? gpu.active);
	const heats = node.gpus.map((gpu) => gpu.temperatureCelsius).filter((value) => value !== undefined);
	const models = [...new Set(whole.map(({ model }) => model.replace(/^NVIDIA /, '')))];
	return {
		node: node.name,
		gpu: whole.length === 0 ? '-' : `${whole.length}x`,
		model: models.join(', '),
		// Of those that say theirs: what isn't known is not idle.
		utilisation: use.length === 0 ? undefined : use.reduce((total, value) => total + value, 0) / use.length,
		memoryUsed: sum((gpu) => gpu.memoryUsedBytes),
		memoryTotal: sum((gpu) => gpu.memoryBytes),
		power: sum((gpu) => gpu.powerWatts),
		powerLimit: sum((gpu) => gpu.powerLimitWatts),
		temperature: heats.length === 0 ? undefined : Math.max(...heats),
		clock: undefined,
		ageSeconds: node.ageSeconds,
		...noteOf(
			node,
			whole.find((gpu) => noteOf(node, gpu).isBad),
		),
		isSimulated: node.simulated,
	};
}

function noteOf(node: NodeGlance, gpu: GpuGlance | undefined): Pick<TopRow, 'note' | 'isBad'> {
	const bad = (note: string) => ({ note, isBad: true });
	if (node.ageSeconds === undefined) return bad('silent');
	if (node.stale) return bad(`stale ${Math.round(node.ageSeconds)} s`);
	if (node.probe === ProbeState.HUNG) return bad('driver hung');
	if (node.probe === ProbeState.UNAVAILABLE) return bad('no driver');
	if (gpu?.nvmlStatus === 15) return bad('GPU LOST');
	if (gpu?.nvmlStatus === 16) return bad('needs reset');
	const health = healthNote(node, gpu);
	if (health !== undefined) return health;
	if (gpu?.lastXid !== undefined && gpu.lastXid !== 0) return bad(`XID ${gpu.lastXid}`);
	if (node.probe === ProbeState.SLOW) return { note: 'driver slow', isBad: false };
	if (node.probe === ProbeState.QUIESCED) return { note: 'quiesced', isBad: false };
	if (node.probe === ProbeState.NO_HARDWARE && node.gpus.length === 0) return { note: 'no GPU', isBad: false };
	return { note: '', isBad: false };
}

/** The verdict of the GPU, or of the node where no GPU is meant; a simulated one begins with `sim`, however narrow. */
function healthNote(node: NodeGlance, gpu: GpuGlance | undefined): Pick<TopRow, 'note' | 'isBad'> | undefined {
	const state = gpu?.health || node.health?.state || HealthState.UNSPECIFIED;
	if (state === HealthState.UNSPECIFIED || state === HealthState.HEALTHY) return undefined;
	const isSimulated = gpu?.health ? gpu.healthSimulated : node.health?.simulated === true;
	const note = `${isSimulated ? 'sim ' : ''}${stateName(state)}`;
	return { note, isBad: state !== HealthState.DEGRADED };
}
