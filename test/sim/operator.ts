import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { platformAccess } from '../../control-plane/app/iam/access.ts';
import { UNLIMITED } from '../../control-plane/app/iam/decide.ts';
import { type CallContext, NO_LIMITS, type PrincipalActor } from '../../control-plane/app/iam/principal.ts';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import type { UnaryUseCase } from '../../control-plane/app/use-case.ts';
import { present } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { SimControlPlane } from './control-plane.ts';
import type { SeededRng } from './world/random.ts';
import type { Scheduler } from './world/scheduler.ts';

/**
 * The people and programs outside: they call the API's use cases as its edge would, wait, give up after a while, and
 * try again under the same request id until they have an answer. They never crash.
 */
const ACTOR: PrincipalActor = Object.freeze({
	kind: 'operator',
	id: 'sim-operator',
	displayName: 'the simulated operator',
	credentialId: '',
	credentialKind: 'none',
	limits: NO_LIMITS,
	limit: UNLIMITED,
	// And a developer of the project that nodes are assigned to: so that what it does there counts.
	access: {
		...platformAccess('platform.operator'),
		at: new Map([['/acme/p.sim/', present(ROLES['tenant.developer'], 'a role').set]]),
	},
	organizations: [],
	credentialExpiresAtMs: null,
	policyEpoch: 0,
});

const GIVE_UP_MS = 10_000;
const RETRY_MS = 3000;
const UNKNOWN_OUTCOME: ReadonlySet<string> = new Set([
	'UNAVAILABLE',
	'DEADLINE_EXCEEDED',
	'RESOURCE_EXHAUSTED',
	'ABORTED',
]);

export class Operator {
	readonly #scheduler: Scheduler;
	readonly #rng: SeededRng;
	readonly #controlPlane: SimControlPlane;
	#requests = 0;

	constructor(scheduler: Scheduler, rng: SeededRng, controlPlane: SimControlPlane) {
		this.#scheduler = scheduler;
		this.#rng = rng;
		this.#controlPlane = controlPlane;
	}

	nextRequestId(): string {
		this.#requests += 1;
		return `request-${this.#requests}`;
	}

	/** Until the answer says yes or no. */
	async insist<I extends DescMessage, O extends DescMessage>(
		useCase: UnaryUseCase<I, O>,
		request: MessageShape<I>,
		requestId = '',
	): Promise<MessageShape<O> | GpuaasError> {
		for (;;) {
			const answer = await this.#once(useCase, request, requestId);
			const isKnown = !(answer instanceof GpuaasError) || !UNKNOWN_OUTCOME.has(answer.code);
			this.#scheduler.note(
				`operator ${useCase.method.name} ${requestId} ${answer instanceof GpuaasError ? `${answer.code} ${answer.reason}` : 'ok'}`,
			);
			if (isKnown) return answer;
			await this.pause(RETRY_MS * (0.5 + this.#rng.float()));
		}
	}

	pause(delayMs: number): Promise<void> {
		return new Promise((resolve) => void this.#scheduler.after(delayMs, resolve));
	}

	#once<I extends DescMessage, O extends DescMessage>(
		useCase: UnaryUseCase<I, O>,
		request: MessageShape<I>,
		requestId: string,
	): Promise<MessageShape<O> | GpuaasError> {
		return new Promise((resolve) => {
			const wayMs = () => this.#rng.float() * 5;
			this.#scheduler.after(GIVE_UP_MS, () => resolve(unreachable('no answer in time')));
			this.#scheduler.after(wayMs(), () => {
				const life = this.#controlPlane.life;
				if (life === undefined) {
					resolve(unreachable('connection refused'));
					return;
				}
				const ctx = contextOf(useCase.policy.name, requestId, life.deps);
				useCase.run(life.deps, ctx, request).then(
					(response) => this.#scheduler.after(wayMs(), () => resolve(response)),
					(error: unknown) => this.#scheduler.after(wayMs(), () => resolve(GpuaasError.from(error))),
				);
			});
		});
	}
}

function contextOf(method: string, requestId: string, { log }: Pick<CallContext, 'log'>): CallContext {
	return {
		actor: ACTOR,
		correlationId: `sim-${requestId === '' ? 'call' : requestId}`,
		method,
		requestId,
		peer: '192.0.2.1:1',
		deadlineMs: Number.POSITIVE_INFINITY,
		signal: new AbortController().signal,
		log,
	};
}

function unreachable(message: string): GpuaasError {
	return new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message });
}
