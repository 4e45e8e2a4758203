import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { rotateCertificateAuthority } from '../../control-plane/app/certificates/rotate.ts';
import { grantEntitlement } from '../../control-plane/app/entitlements/grant.ts';
import { assignNode } from '../../control-plane/app/nodes/assign.ts';
import { cordonNode, uncordonNode } from '../../control-plane/app/nodes/cordon.ts';
import { drainNode } from '../../control-plane/app/nodes/drain.ts';
import { unassignNode } from '../../control-plane/app/nodes/unassign.ts';
import { createScope } from '../../control-plane/app/scopes/create.ts';
import { cancelTask } from '../../control-plane/app/tasks/cancel.ts';
import { createTask } from '../../control-plane/app/tasks/create.ts';
import { GpuaasError } from '../../kit/error.ts';
import {
	RotateCertificateAuthorityRequestSchema,
	RotationStep,
} from '../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { CreateScopeRequestSchema, ScopeKind } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import {
	AssignmentMode,
	AssignNodeRequestSchema,
	CordonNodeRequestSchema,
	DrainNodeRequestSchema,
	UnassignNodeRequestSchema,
	UncordonNodeRequestSchema,
} from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { GrantEntitlementRequestSchema } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { CancelTaskRequestSchema, CreateTaskRequestSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { SimControlPlane } from './control-plane.ts';
import { nodeIdOf } from './enrollment.ts';
import type { History } from './history.ts';
import type { SimNode } from './node.ts';
import type { Operator } from './operator.ts';
import { argvOf, type Program } from './world/programs.ts';
import type { SeededRng } from './world/random.ts';
import type { Scheduler } from './world/scheduler.ts';

/** What people want of the fleet while everything breaks: tasks of all lengths and manners, cancels, cordons, renewals. */
export interface WorkloadParts {
	readonly scheduler: Scheduler;
	readonly rng: SeededRng;
	readonly operator: Operator;
	readonly controlPlane: SimControlPlane;
	readonly nodes: readonly SimNode[];
	readonly history: History;
}

/** Past this a rotation waits for somebody to look at its laggards. */
const ROTATION_TRIES_MAX = 30;

export class Workload {
	readonly #parts: WorkloadParts;
	#open = 0;

	constructor(parts: WorkloadParts) {
		this.#parts = parts;
	}

	/** Calls that have no answer yet. */
	get openCalls(): number {
		return this.#open;
	}

	/** Plans everything between `fromMs` and `untilMs` of virtual time. */
	plan(fromMs: number, untilMs: number): void {
		const { scheduler, rng } = this.#parts;
		const at = (work: () => Promise<void>) => scheduler.at(rng.int(fromMs, untilMs), () => this.#start(work));
		const tasks = rng.int(10, 40);
		// Some come in bursts, so that queues fill and batches form.
		let burstAtMs = rng.int(fromMs, untilMs);
		for (let index = 0; index < tasks; index += 1) {
			if (rng.chance(0.3)) scheduler.at(burstAtMs, () => this.#start(() => this.#createTask()));
			else at(() => this.#createTask());
			if (rng.chance(0.1)) burstAtMs = rng.int(fromMs, untilMs);
		}
		for (let cordons = rng.int(0, 2); cordons > 0; cordons -= 1) at(() => this.#cordon());
		for (let renewals = rng.int(0, 3); renewals > 0; renewals -= 1) at(() => this.#renew());
		if (rng.chance(0.4)) at(() => this.#drain());
		if (rng.chance(0.4)) at(() => this.#assign());
		if (rng.chance(0.15)) at(() => this.#rotate());
	}

	#start(work: () => Promise<void>): void {
		this.#open += 1;
		void work().finally(() => {
			this.#open -= 1;
		});
	}

	async #createTask(): Promise<void> {
		const { rng, operator, history, nodes } = this.#parts;
		const node = rng.pick(nodes);
		const nodeId = nodeIdOf(node);
		const request = create(CreateTaskRequestSchema, {
			node: nodeId,
			spec: { kind: { case: 'run', value: { argv: argvOf(this.#program()), user: 'sim' } } },
			maxAttempts: rng.int(1, 3),
			...(rng.chance(0.3) && { timeout: durationFromMs(rng.int(500, 20_000)) }),
			...(rng.chance(0.2) && { queueTimeout: durationFromMs(rng.int(1000, 60_000)) }),
			...(rng.chance(0.1) && { outputBytesMax: 16_384n }),
		});
		const requestId = operator.nextRequestId();
		request.requestId = requestId;
		const cancelAfterMs = rng.chance(0.25) ? rng.float() ** 2 * 20_000 : undefined;
		const answer = await operator.insist(createTask, request, requestId);
		if (answer instanceof GpuaasError || answer.task === undefined) return;
		const known = history.created.get(answer.task.id);
		if (known !== undefined && known.requestId !== requestId)
			history.violate('nothing-runs-twice', `two requests were answered with one task ${answer.task.id}`);
		history.created.set(answer.task.id, { nodeId, requestId });
		if (cancelAfterMs === undefined) return;
		await operator.pause(cancelAfterMs);
		await this.#cancel(answer.task.id);
		// People press the button twice.
		if (rng.chance(0.3)) await this.#cancel(answer.task.id);
	}

	async #cancel(taskId: string): Promise<void> {
		const { rng, operator, history } = this.#parts;
		const request = create(CancelTaskRequestSchema, { taskId, grace: durationFromMs(rng.int(0, 5000)) });
		const answer = await operator.insist(cancelTask, request);
		if (!(answer instanceof GpuaasError)) history.cancelled.set(taskId, (history.cancelled.get(taskId) ?? 0) + 1);
	}

	#program(): Program {
		const { rng } = this.#parts;
		const kind = rng.float();
		return {
			durationMs: kind < 0.5 ? rng.int(1, 500) : kind < 0.9 ? rng.int(500, 20_000) : rng.int(20_000, 150_000),
			exitCode: rng.chance(0.7) ? 0 : rng.int(1, 255),
			outputBytes: rng.chance(0.5) ? 0 : rng.chance(0.7) ? rng.int(1, 10_000) : rng.int(10_000, 120_000),
			manners: rng.chance(0.9) ? 'polite' : rng.chance(0.5) ? 'stubborn' : 'missing',
		};
	}

	async #cordon(): Promise<void> {
		const { rng, operator, nodes } = this.#parts;
		const nodeId = nodeIdOf(rng.pick(nodes));
		await operator.insist(cordonNode, create(CordonNodeRequestSchema, { node: nodeId, reason: 'sim' }));
		await operator.pause(rng.int(1000, 20_000));
		await operator.insist(uncordonNode, create(UncordonNodeRequestSchema, { node: nodeId }));
	}

	/** Work may end for a while and is stopped then; the node is left cordoned, until somebody takes that back. */
	async #drain(): Promise<void> {
		const { rng, operator, nodes } = this.#parts;
		const nodeId = nodeIdOf(rng.pick(nodes));
		const deadline = durationFromMs(rng.int(0, 30_000));
		const requestId = operator.nextRequestId();
		const request = create(DrainNodeRequestSchema, { node: nodeId, reason: 'sim', deadline, requestId });
		await operator.insist(drainNode, request, requestId);
		await operator.pause(rng.int(10_000, 60_000));
		await operator.insist(uncordonNode, create(UncordonNodeRequestSchema, { node: nodeId }));
	}

	/** Tasks that are made meanwhile belong to the assignment and end with it. */
	async #assign(): Promise<void> {
		const { rng, operator, nodes } = this.#parts;
		const node = nodeIdOf(rng.pick(nodes));
		await this.#makeProject();
		const requestId = operator.nextRequestId();
		const assignment = { node, organization: 'acme', project: 'sim', mode: AssignmentMode.OPERATOR, requestId };
		await operator.insist(assignNode, create(AssignNodeRequestSchema, assignment), requestId);
		await operator.pause(rng.int(1000, 40_000));
		await operator.insist(unassignNode, create(UnassignNodeRequestSchema, { node, reason: 'sim' }));
	}

	/** Once; later the answer is that it is there. */
	async #makeProject(): Promise<void> {
		const { operator } = this.#parts;
		const organization = { parent: 'platform', kind: ScopeKind.ORGANIZATION, id: 'acme', displayName: 'Acme' };
		await operator.insist(createScope, create(CreateScopeRequestSchema, organization));
		const project = { parent: 'organizations/acme', kind: ScopeKind.PROJECT, id: 'sim', displayName: 'Sim' };
		await operator.insist(createScope, create(CreateScopeRequestSchema, project));
		const requestId = 'acme-gpus';
		const entitlement = { parent: 'organizations/acme', subject: 'gpu-model/*', requestId };
		await operator.insist(grantEntitlement, create(GrantEntitlementRequestSchema, entitlement), requestId);
	}

	/** Every step waits for the nodes that have not acknowledged the one before. */
	async #rotate(): Promise<void> {
		const { rng, operator } = this.#parts;
		const steps = [
			RotationStep.PREPARE,
			RotationStep.ACTIVATE,
			RotationStep.DRAIN,
			RotationStep.TAINT,
			RotationStep.REVOKE,
		];
		for (const step of steps) {
			for (let tries = 0; tries < ROTATION_TRIES_MAX; tries += 1) {
				const requestId = operator.nextRequestId();
				const request = create(RotateCertificateAuthorityRequestSchema, { step, reason: 'sim', requestId });
				const answer = await operator.insist(rotateCertificateAuthority, request, requestId);
				if (!(answer instanceof GpuaasError)) break;
				// An answer that was lost: the step was made.
				if (answer.reason === 'ROTATION_STEP_INVALID') break;
				await operator.pause(rng.int(2000, 8000));
			}
		}
	}

	/** As a rotation of the CA does: by a command, and again by the next Welcome. */
	async #renew(): Promise<void> {
		const { rng, nodes, controlPlane, operator } = this.#parts;
		const nodeId = nodeIdOf(rng.pick(nodes));
		for (let times = rng.int(1, 3); times > 0; times -= 1) {
			controlPlane.life?.registry.renewNow(nodeId, 'the simulation wants to see it');
			await operator.pause(rng.float() * 10);
		}
	}
}
