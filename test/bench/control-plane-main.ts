import { create } from '@bufbuild/protobuf';
import type { IdentityState } from '../../agent/identity/state-file.ts';
import { platformAccess } from '../../control-plane/app/iam/access.ts';
import { UNLIMITED } from '../../control-plane/app/iam/decide.ts';
import { type CallContext, NO_LIMITS } from '../../control-plane/app/iam/principal.ts';
import { createTask } from '../../control-plane/app/tasks/create.ts';
import { keepAlive, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { Scope } from '../../kit/scope.ts';
import { CreateTaskRequestSchema, TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { taskRow } from '../integration/tasks-world.ts';
import { serveParent } from './child.ts';
import { type BenchControlPlane, startControlPlane } from './control-plane.ts';
import { enrollNodes } from './enrolled.ts';
import { parallel } from './measure.ts';

/** A control plane in a process of its own, and what a row asks it. */
export interface ControlPlaneReady {
	readonly gateway: string;
	readonly identity: { readonly chainPem: string; readonly keyPem: string; readonly clientAnchorsPem: string };
}

export type ControlPlaneQuestion =
	| { readonly ask: 'enroll'; readonly count: number }
	| { readonly ask: 'usage' }
	/** One task after another over the nodes, by the use case behind CreateTask; resolves when all are durable. */
	| { readonly ask: 'submit'; readonly nodeIds: readonly string[]; readonly count: number; readonly callers: number }
	/** How many tasks are open, by state. */
	| { readonly ask: 'tasks' }
	/** The id of a new task that runs on this node, for its output to be uploaded. */
	| { readonly ask: 'task'; readonly nodeId: string }
	/** How many bytes of its output are kept. */
	| { readonly ask: 'stored'; readonly taskId: string };

export interface Usage {
	readonly cpuUs: number;
	readonly rssBytes: number;
	readonly sessions: number;
}

export type Enrolled = readonly IdentityState[];

const settings = JSON.parse(process.argv[2] ?? '{}') as { readonly folder: string; readonly port: number };
using _alive = keepAlive();
await using scope = new Scope((name, error) => process.stderr.write(`bench: ${name}: ${String(error)}\n`));
const plane = await startControlPlane(scope, settings);
const ready: ControlPlaneReady = { gateway: plane.gateway, identity: plane.identity };
await serveParent<ControlPlaneQuestion>(ready, (question) => answer(plane, question));
// Its profile is written on a plain exit; nothing that is measured happens after the parent is gone.
process.exit();

async function answer({ deps, authority, gateway, sessions }: BenchControlPlane, question: ControlPlaneQuestion) {
	switch (question.ask) {
		case 'enroll':
			return await enrollNodes(deps, authority, gateway, question.count);
		case 'usage': {
			const { user, system } = process.cpuUsage();
			return { cpuUs: user + system, rssBytes: process.memoryUsage.rss(), sessions: sessions.size } satisfies Usage;
		}
		case 'submit': {
			const { nodeIds, count, callers } = question;
			const policyEpoch = await deps.store.read((tx) => tx.access.policyEpoch());
			await parallel(count, callers, async (index) => {
				const request = create(CreateTaskRequestSchema, {
					node: nodeIds[index % nodeIds.length] ?? '',
					spec: { kind: { case: 'run', value: { argv: ['/bin/true'] } } },
					requestId: uuidv7(systemClock.now(), systemRng),
				});
				await createTask.run(deps, operator(request.requestId, policyEpoch), request);
			});
			return null;
		}
		case 'tasks':
			return await deps.store.read((tx) => tx.tasks.countByState());
		case 'task': {
			const spec = create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['/bin/true'] } } });
			const row = taskRow(question.nodeId, spec, {
				state: 'running',
				attempt: 1,
				fencingToken: 1,
				outputBytesMax: 2 ** 31,
			});
			await deps.store.unit((tx) => tx.tasks.insert(row));
			return row.id;
		}
		case 'stored':
			return await deps.output.storedOffset(question.taskId, 1);
	}
}

function operator(requestId: string, policyEpoch: number): CallContext {
	return {
		actor: {
			kind: 'operator',
			id: 'bench-operator',
			displayName: 'bench',
			credentialId: 'bench',
			credentialKind: 'api_key',
			limits: NO_LIMITS,
			limit: UNLIMITED,
			access: platformAccess('platform.operator'),
			organizations: [],
			credentialExpiresAtMs: null,
			policyEpoch,
		},
		correlationId: uuidv7(systemClock.now(), systemRng),
		method: createTask.policy.name,
		requestId,
		peer: '',
		deadlineMs: Number.POSITIVE_INFINITY,
		signal: new AbortController().signal,
		log: silentLogger,
	};
}
