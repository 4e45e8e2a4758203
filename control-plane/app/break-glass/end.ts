import { create } from '@bufbuild/protobuf';
import {
	BreakGlassService,
	EndBreakGlassResponseSchema,
} from '../../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import { asPlatform } from '../../store/port/unit.ts';
import { lockPolicy, mutation } from '../use-case.ts';
import { breakGlassInvalid } from './rules.ts';

export const endBreakGlass = mutation('self', BreakGlassService.method.endBreakGlass, {
	lock: lockPolicy,
	// A first decision, so that who is refused locks nothing.
	prepare: () => undefined,
	*apply(tx, { ctx: { actor }, nowMs }) {
		const isOpen = actor.credentialKind === 'break_glass';
		const ended = isOpen ? yield* asPlatform(tx.breakGlass.end(actor.credentialId, nowMs)) : undefined;
		if (ended === undefined) throw breakGlassInvalid('this credential is none');
		return {
			response: create(EndBreakGlassResponseSchema, {}),
			audit: { action: 'breakglass.end', target: `break-glass/${ended.id}`, result: 'ok', reason: '' },
		};
	},
});
