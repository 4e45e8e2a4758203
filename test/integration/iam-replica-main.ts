import { createInterface } from 'node:readline';
import { create } from '@bufbuild/protobuf';
import { ApiKeyAuthenticator } from '../../control-plane/app/iam/authenticate.ts';
import { parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import type { CallContext } from '../../control-plane/app/iam/principal.ts';
import { authorizedTarget } from '../../control-plane/app/iam/target.ts';
import { getScope } from '../../control-plane/app/scopes/get.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { GetScopeRequestSchema } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';

/**
 * A program for iam-replicas.test.ts: `iam-replica-main.ts <store url>`. The deciding half of a control plane in a
 * process of its own: it reads the peppers, then `<key> <scope>` a line, and answers each with `ok` or the reason.
 */
const store = await openStore(present(process.argv[2], 'the URL of a store'), {
	clock: systemClock,
	rng: systemRng,
	log: silentLogger,
});
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ring = parsePeppers(String((await lines.next()).value));
const policies = new PolicyCache();
const authenticator = new ApiKeyAuthenticator({
	store,
	clock: systemClock,
	log: silentLogger,
	pepper: ring,
	environment: 'test',
	policies,
	uses: { seen: () => {} },
});

async function answer(key: string, name: string): Promise<string> {
	try {
		const actor = await authenticator.authenticate(`Bearer ${key}`, { peer: '' });
		const ctx: Pick<CallContext, 'actor'> = { actor };
		await store.read(function* (tx) {
			const view = yield* policies.committed(tx);
			const request = create(GetScopeRequestSchema, { name });
			return yield* authorizedTarget(tx, view, ctx as CallContext, getScope.policy, request, systemClock.now());
		});
		return 'ok';
	} catch (error) {
		return GpuaasError.from(error).reason;
	}
}

process.stdout.write('ready\n');
for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
	const [key = '', scope = ''] = line.value.split(' ');
	process.stdout.write(`${await answer(key, scope)}\n`);
}
await store[Symbol.asyncDispose]();
