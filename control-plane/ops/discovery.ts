import type { AppDeps } from '../app/deps.ts';
import { type DiscoveredNode, readNodes } from '../app/system/fleet-facts.ts';
import { isInShard, type Shard } from '../app/telemetry/shard.ts';

/**
 * Service discovery for Prometheus over HTTP (prometheus.io/docs/prometheus/latest/http_sd): one target a node that isn't
 * retired, silent ones too, so that they alert. `instance` is the node's name, because dashboards that were made for an
 * exporter on each host select by it. Labels of nodes may name customers: only those that the configuration lists are
 * shown. `?shard=I&of=N` gives one part of N, the same nodes each time, for Prometheus servers that share a fleet.
 */
export interface Discovery {
	/** host:port that Prometheus reached us by, so it can scrape it. */
	readonly target: string;
	readonly nodeLabels: readonly string[];
	readonly query: URLSearchParams;
}

/** More than one replica serves. */
const TARGETS_MAX = 50_000;
const PAGE = 1000;
const SHARDS_MAX = 1000;

/** The JSON document, or what is wrong with the question. */
export async function discover(
	deps: AppDeps,
	{ target, nodeLabels, query }: Discovery,
): Promise<{ readonly json: string } | { readonly wrong: string }> {
	const shard = shardOf(query);
	const names = query.get('names');
	if (shard === undefined) return { wrong: `shard is a number from 0, below of, which is at most ${SHARDS_MAX}\n` };
	if (names !== null && names !== 'dcgm' && names !== 'gpuaas') return { wrong: 'names is gpuaas or dcgm\n' };
	const groups: unknown[] = [];
	for (let afterId = ''; groups.length < TARGETS_MAX; ) {
		const nodes = await readNodes(deps, afterId, PAGE);
		for (const node of nodes) {
			if (!isInShard(node.id, shard)) continue;
			const param = names === null ? {} : { __param_names: names };
			groups.push({ targets: [target], labels: { ...labelsOf(node, nodeLabels), ...param } });
		}
		if (nodes.length < PAGE) break;
		afterId = nodes.at(-1)?.id ?? afterId;
	}
	return { json: JSON.stringify(groups) };
}

function labelsOf({ id, name, labels }: DiscoveredNode, shown: readonly string[]): Record<string, string> {
	const extra = shown.flatMap((key) =>
		labels[key] === undefined ? [] : [[key.replaceAll(/[^a-zA-Z0-9_]/g, '_'), labels[key]]],
	);
	return { ...Object.fromEntries(extra), __metrics_path__: `/metrics/nodes/${id}`, instance: name, node: id };
}

function shardOf(query: URLSearchParams): Shard | undefined {
	const [index, of] = ['shard', 'of'].map((name) => query.get(name));
	if (index === null && of === null) return { index: 0, of: 1 };
	const shard = { index: numberOf(index), of: numberOf(of) };
	return shard.of >= 1 && shard.of <= SHARDS_MAX && shard.index < shard.of ? shard : undefined;
}

function numberOf(text: string | null | undefined): number {
	return /^\d{1,4}$/.test(text ?? '') ? Number(text) : Number.NaN;
}
