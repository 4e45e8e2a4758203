import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import type { ConnectRouter, HandlerContext } from '@connectrpc/connect';
import { addressGroup } from '../../kit/address-group.ts';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import type { KeyedBuckets } from '../../kit/limits.ts';
import { isCorrelationId } from '../../kit/log.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import { Caller, RateClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import {
	BeginEnrollmentRequestSchema,
	CompleteEnrollmentRequestSchema,
	EnrollmentService,
} from '../../proto/gen/gpuaas/enrollment/v1/enrollment_pb.ts';
import { violationText } from '../../proto/violation-text.ts';
import { beginEnrollment } from '../app/enrollment/begin.ts';
import { completeEnrollment } from '../app/enrollment/complete.ts';
import type { EnrollmentDeps } from '../app/enrollment/deps.ts';
import { checkedPolicy } from '../app/iam/method-policy.ts';
import type { RequestContext } from '../context.ts';
import { channelKey } from './channel.ts';
import { connectErrorOf } from './errors.ts';

const validator = createValidator();

/** Decode, limit, one app call, encode. */
export function enrollmentRoutes(deps: EnrollmentDeps, calls: KeyedBuckets): (router: ConnectRouter) => void {
	for (const method of EnrollmentService.methods) {
		const { caller, rate, name } = checkedPolicy(method);
		assert(caller === Caller.JOINER && rate === RateClass.ENROLL, `${name} is served and limited as enrollment`);
	}
	const floods = new SparingLog(deps.log, deps.clock);
	const call = async <D extends DescMessage, Response>(
		desc: D,
		request: MessageShape<D>,
		handler: HandlerContext,
		serve: (ctx: RequestContext, exporter: Uint8Array) => Promise<Response>,
	): Promise<Response> => {
		const { exporter, peer } = handler.values.get(channelKey);
		const ctx = contextOf(deps, handler, peer);
		try {
			limit(calls, peer);
			validate(desc, request);
			if (exporter === undefined) throw noChannel();
			return await serve(ctx, exporter);
		} catch (error) {
			const { code, reason } = GpuaasError.from(error);
			if (code === 'INTERNAL') ctx.log.error('enrollment failed', { error, peer });
			else if (reason === 'RATE_LIMITED')
				floods.warn('enrollment refused: too many calls', { peer, method: ctx.method });
			else ctx.log.warn('enrollment refused', { reason, peer, method: ctx.method });
			throw connectErrorOf(error);
		}
	};
	return (router) => {
		router.service(EnrollmentService, {
			beginEnrollment: (request, handler) =>
				call(BeginEnrollmentRequestSchema, request, handler, (ctx, exporter) =>
					beginEnrollment(deps, withToken(ctx, tokenIdOf(request)), exporter, request),
				),
			completeEnrollment: (request, handler) =>
				call(CompleteEnrollmentRequestSchema, request, handler, (ctx, exporter) =>
					completeEnrollment(deps, ctx, exporter, request),
				),
		});
	};
}

function tokenIdOf({ credential }: MessageShape<typeof BeginEnrollmentRequestSchema>): string {
	return credential.case === 'joinToken' ? credential.value.tokenId : '';
}

function contextOf(deps: EnrollmentDeps, handler: HandlerContext, peer: string): RequestContext {
	const sent = handler.requestHeader.get('x-correlation-id') ?? '';
	const correlationId = isCorrelationId(sent) ? sent : uuidv7(deps.clock.now(), deps.rng);
	return {
		actor: { kind: 'joiner', id: '', displayName: '', credentialId: '', credentialExpiresAtMs: null },
		correlationId,
		method: `${handler.service.typeName}/${handler.method.name}`,
		requestId: '',
		peer,
		deadlineMs: Number.POSITIVE_INFINITY,
		signal: handler.signal,
		log: deps.log.child({ correlation_id: correlationId }),
	};
}

/** The id is not proved yet when Begin starts; a record that names it is only written after it is. */
function withToken(ctx: RequestContext, tokenId: string): RequestContext {
	return { ...ctx, actor: { ...ctx.actor, id: tokenId, credentialId: tokenId } };
}

function limit(calls: KeyedBuckets, peer: string): void {
	const waitMs = calls.take(addressGroup(peer));
	if (waitMs === 0) return;
	throw new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `too many enrollment calls from ${peer}; try again in ${waitMs} ms`,
		metadata: { retry_after_ms: String(waitMs) },
	});
}

function validate<D extends DescMessage>(desc: D, request: MessageShape<D>): void {
	const result = validator.validate(desc, request);
	if (result.kind === 'valid') return;
	const what =
		result.kind === 'invalid'
			? result.violations
					.map(violationText)
					.map(({ field, description }) => `${field}: ${description}`)
					.join('; ')
			: 'its rules could not be checked';
	throw new GpuaasError({
		code: result.kind === 'invalid' ? 'INVALID_ARGUMENT' : 'INTERNAL',
		reason: 'INVALID_REQUEST',
		message: `the request breaks the contract: ${what}`,
	});
}

function noChannel(): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'CHANNEL_MISMATCH',
		message: 'enrollment works only over a direct TLS 1.3 connection; let the host reach this listener without a proxy',
	});
}
