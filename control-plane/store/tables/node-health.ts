import type { NodeHealth, NodeHealthRow } from '../port/node-health.ts';
import { snake } from './columns.ts';
import type { Compiler } from './compiler.ts';
import { HEALTH_CHANGES, HEALTH_EVIDENCE, HEALTH_LINES, HEALTH_OVERRIDES, NODE_HEALTH } from './schema.ts';

export function nodeHealthTable(compiler: Compiler): NodeHealth {
	const replaced = (fields: readonly string[]) =>
		fields
			.map(snake)
			.filter((column) => column !== 'node_id')
			.map((column) => `${column} = excluded.${column}`)
			.join(', ');
	const insert = compiler.insert(NODE_HEALTH);
	const ofNodes = compiler.select(
		NODE_HEALTH,
		`where ${compiler.inListText('node_health.node_id')} order by node_health.node_id`,
	);
	const lines = compiler.select(
		HEALTH_LINES,
		`where ${compiler.inListText('node_health.node_id')} order by node_health.node_id`,
	);
	const insertChange = compiler.insert(HEALTH_CHANGES);
	const trimOf = (table: string, key: string) =>
		compiler.statement(
			`delete from ${table} where ${key} and id not in (select id from ${table} where ${key} order by id desc limit ?)`,
		);
	const trimChanges = trimOf('node_health_changes', 'node_id = ? and custody = ?');
	const changes = compiler.select(HEALTH_CHANGES, 'where node_id = ? and custody = ? order by id desc limit ?');
	const insertEvidence = compiler.insert(HEALTH_EVIDENCE);
	const trimEvidence = trimOf('node_health_evidence', 'node_id = ?');
	const evidence = compiler.select(HEALTH_EVIDENCE, 'where node_id = ? and id > ? order by id limit ?');
	const insertOverride = compiler.insert(HEALTH_OVERRIDES);
	const overrides = compiler.select(HEALTH_OVERRIDES, `where ${compiler.inListText('node_id')} order by node_id`);
	const expired = compiler.select(HEALTH_OVERRIDES, 'where expires_at_ms <= ? order by expires_at_ms, node_id limit ?');
	const deleteOverride = compiler.statement('delete from node_health_overrides where node_id = ?');
	const endOverride = compiler.statement('delete from node_health_overrides where node_id = ? and expires_at_ms <= ?');
	// By an index of its own (node_health_fleet): the rows themselves hold verdicts and engines, some kilobytes each.
	const fleetSql = `select count(*) as nodes, sum(case when node_health.quarantined_at_ms is not null
		and node_health.quarantine_reason not like 'simulated: %' then 1 else 0 end) as quarantined from node_health
		join nodes on nodes.id = node_health.node_id
		where nodes.retired_at_ms is null and node_health.gpus > 0`;
	const fleet = compiler.statement(fleetSql);
	const labelled = compiler.statement(`${fleetSql} and ${compiler.hasEntryText('nodes.labels')}`);
	return {
		*get(nodeId) {
			return NODE_HEALTH.first(yield ofNodes([nodeId]));
		},
		*ofNodes(nodeIds) {
			return nodeIds.length === 0 ? [] : NODE_HEALTH.all(yield ofNodes(nodeIds));
		},
		*linesOfNodes(nodeIds) {
			return nodeIds.length === 0 ? [] : HEALTH_LINES.all(yield lines(nodeIds));
		},
		*put(row: NodeHealthRow, ifVersion) {
			const { sql, parameters } = insert(row);
			const guard = compiler.dialect === 'sqlite' ? '?' : `$${parameters.length + 1}`;
			const upsert = `${sql} on conflict (node_id) do update set ${replaced(NODE_HEALTH.fields)} where node_health.version = ${guard}`;
			return (yield { sql: upsert, parameters: [...parameters, ifVersion] }).changes > 0;
		},
		*fleet(label) {
			const row = (yield label === undefined ? fleet() : labelled(label.key, label.value)).rows[0];
			return { gpuNodes: Number(row?.nodes ?? 0), quarantined: Number(row?.quarantined ?? 0) };
		},
		*insertChange(row, keepMax) {
			yield insertChange(row);
			const { nodeId, custody } = row;
			yield trimChanges(nodeId, custody, nodeId, custody, keepMax);
		},
		*listChanges(nodeId, custody, limit) {
			return HEALTH_CHANGES.all(yield changes(nodeId, custody, limit));
		},
		*insertEvidence(row, keepMax) {
			yield insertEvidence(row);
			yield trimEvidence(row.nodeId, row.nodeId, keepMax);
		},
		*evidenceAfter(nodeId, afterId, limit) {
			return HEALTH_EVIDENCE.all(yield evidence(nodeId, afterId, limit));
		},
		*overridesOf(nodeIds) {
			return nodeIds.length === 0 ? [] : HEALTH_OVERRIDES.all(yield overrides(nodeIds));
		},
		*putOverride(row) {
			const { sql, parameters } = insertOverride(row);
			yield { sql: `${sql} on conflict (node_id) do update set ${replaced(HEALTH_OVERRIDES.fields)}`, parameters };
		},
		*deleteOverride(nodeId) {
			return (yield deleteOverride(nodeId)).changes > 0;
		},
		*endOverride(nodeId, nowMs) {
			return (yield endOverride(nodeId, nowMs)).changes > 0;
		},
		*overridesExpired(nowMs, limit) {
			return HEALTH_OVERRIDES.all(yield expired(nowMs, limit));
		},
	};
}
