import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	ExplainNodeResponseSchema,
	type Explanation,
	ExplanationSchema,
	NodeService,
} from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { OperationRow } from '../../store/port/operations.ts';
import { glanceMessage, healthOfNode, type StoredHealth } from '../health/glance.ts';
import type { DeclinedTask } from '../sessions/agent-sessions.ts';
import type { RefusedFacts } from '../telemetry/fact-budget.ts';
import { query } from '../use-case.ts';
import { connectionOf, factsOfNode, type NodeFacts, nodeMessage } from '../wire/node.ts';

/** Why the node is as it is: one line a fact, each with what happens next or what a person should do. */
export const explainNode = query('node', NodeService.method.explainNode, {
	*read(tx, { nowMs }, { node }) {
		return {
			facts: yield* factsOfNode(tx, node),
			open: yield* tx.tasks.countOpen(node.id),
			terminals: yield* tx.terminals.countOpen(node.id),
			drain: yield* tx.operations.runningOfTarget(node.id, 'nodes.drain'),
			health: yield* healthOfNode(tx, node, nowMs),
		};
	},
	answer: ({ nowMs, deps }, { facts, open, terminals, drain, health }) =>
		create(ExplainNodeResponseSchema, {
			node: nodeMessage(facts, nowMs, glanceMessage(health, true)),
			explanations: [
				...explain(facts, open, drain, nowMs),
				...healthLines(health),
				...declinedLines(deps.sessions.declinedBy(facts.node.id), nowMs),
				...refusedLines(deps.telemetry.facts.refusedOf(facts.node.id)),
				line('terminals', `${terminals} open`, terminals === 0 ? 'nothing to do' : 'list them by node'),
			],
		}),
});

function* explain(
	facts: NodeFacts,
	open: number,
	drain: OperationRow | undefined,
	nowMs: number,
): Generator<Explanation> {
	const { node, assignment } = facts;
	yield lease(facts, nowMs);
	yield certificate(facts, nowMs);
	yield line(
		'state',
		`the node is ${node.state}`,
		node.state === 'retired' ? 'enroll its host again with a new join token' : 'nothing to do',
	);
	if (node.locked) yield line('lock', node.lockReason, 'look at both hosts, then unlock the node with a reason');
	if (drain !== undefined)
		yield line('drain', drain.progress, 'what is still open is ended at the deadline', drain.deadlineMs);
	else if (node.cordoned)
		yield line(
			'cordon',
			node.cordonReason === '' ? 'cordoned without a reason' : node.cordonReason,
			'uncordon it to let it take work',
		);
	if (node.custody !== 'platform')
		yield line(
			'custody',
			`in ${node.custody} custody: what its agent says decides nothing`,
			'unassign it; then reimage the host, remove the node and enroll it again',
		);
	if (assignment !== undefined)
		yield line(
			'assignment',
			`assigned to ${assignment.organization}/${assignment.project} (${assignment.mode})`,
			'unassign it to end its tasks and sessions',
		);
	yield line('tasks', `${open} open`, open === 0 ? 'nothing to do' : 'list them by node');
}

function* healthLines({ row, override }: StoredHealth): Generator<Explanation> {
	if (row === undefined) yield line('health', 'nobody has judged it yet', 'nothing to do');
	else {
		const simulated = row.simulated ? ' (simulated)' : '';
		const isWell = row.schedulable && row.quarantinedAtMs === null;
		yield line(
			'health',
			`${row.state}${simulated} since ${iso(row.sinceMs)}, by policy ${row.policyVersion}`,
			isWell ? 'nothing to do' : 'see gpuaas node health, which says what to do; until then nobody gets the node',
		);
		if (row.quarantinedAtMs !== null)
			yield line(
				'quarantine',
				`since ${iso(row.quarantinedAtMs)}: ${row.quarantineReason}`,
				'it comes back by evidence of a load test or a repair, not by uncordoning it',
			);
	}
	if (override !== undefined)
		yield line(
			'health override',
			`${override.schedulable ? 'allowed' : 'held back'} by ${override.createdBy}: ${override.reason}`,
			'the verdict decides again after',
			override.expiresAtMs,
		);
}

/** On the replica that has the agent's stream. */
function* declinedLines(declined: DeclinedTask | undefined, nowMs: number): Generator<Explanation> {
	if (declined === undefined) return;
	const ageS = Math.round((nowMs - declined.atMs) / 1000);
	yield line(
		'journal',
		`a task was declined ${ageS} s ago (${declined.reason}): ${declined.message}`,
		"look at the disk of the agent's data folder; the next task that it takes shows that it can write again",
	);
}

/** On the replica that has the agent's stream, since it started. */
function refusedLines(refused: readonly RefusedFacts[]): readonly Explanation[] {
	return refused.map(({ kind, count, ageMs }) =>
		line(
			`${kind} facts`,
			`${count} were not stored (RATE_LIMITED), the newest ${Math.round(ageMs / 1000)} s ago: the agent sends more than is kept of a node`,
			REFUSED_NEXT[kind],
		),
	);
}

const REFUSED_NEXT: Readonly<Record<RefusedFacts['kind'], string>> = {
	audit: 'look at what its agent does; records of it are at most one a second',
	health: 'look at the host: its verdict may lack what it said last',
	inventory: 'look at the host, then restart its agent, which reports its inventory anew: what is shown may be old',
};

function lease({ node, session }: NodeFacts, nowMs: number): Explanation {
	switch (connectionOf(session, nowMs)) {
		case 'connected':
			return line(
				'lease',
				`the agent is connected since ${iso(session?.connectedAtMs ?? nowMs)}`,
				'it must be heard from before the deadline',
				session?.leaseUntilMs,
			);
		case 'disconnected':
			return session === undefined
				? line('lease', 'the agent has not connected yet', 'look at `gpuaas agent status` on the host')
				: line(
						'lease',
						'the agent closed its stream and is expected back',
						'it is lost after the deadline',
						session.leaseUntilMs,
					);
		default:
			return line(
				'lease',
				`the agent was last heard at ${iso(node.lastSeenAtMs ?? node.enrolledAtMs)}; nobody knows what runs there`,
				'look at the host and its network, then at `gpuaas agent doctor`',
			);
	}
}

function certificate({ certificateExpiresAtMs: expiresAtMs }: NodeFacts, nowMs: number): Explanation {
	if (expiresAtMs === null)
		return line('certificate', 'the node has no certificate that is in force', 'enroll its host again');
	if (expiresAtMs <= nowMs)
		return line(
			'certificate',
			`expired at ${iso(expiresAtMs)}`,
			'the agent recovers by itself when it reaches the enrollment listener',
			expiresAtMs,
		);
	return line(
		'certificate',
		`valid until ${iso(expiresAtMs)}`,
		'the agent renews it at half of its life, long before that',
	);
}

function line(subject: string, finding: string, next: string, deadlineMs?: number): Explanation {
	return create(ExplanationSchema, {
		subject,
		finding,
		next,
		...(deadlineMs === undefined ? {} : { deadline: timestampFromMs(deadlineMs) }),
	});
}

function iso(ms: number): string {
	return new Date(ms).toISOString();
}
