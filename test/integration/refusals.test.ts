import { expect, test } from 'vitest';
import type { AuditEvent } from '../../control-plane/app/audit/event.ts';
import { RefusalLog } from '../../control-plane/app/iam/refusals.ts';
import { systemContext } from '../../control-plane/context.ts';
import type { Store, Tx } from '../../control-plane/store/port/store.ts';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';

const denied = new GpuaasError({ code: 'NOT_FOUND', reason: 'NODE_NOT_FOUND', message: 'no' });

/** What it writes, on a store that may be away. */
function recordedBy(clock: VirtualClock, isAway = () => false) {
	const store: Pick<Store, 'unit'> = {
		async unit(plan) {
			if (isAway()) throw new GpuaasError({ code: 'UNAVAILABLE', reason: 'STORE_UNAVAILABLE', message: 'away' });
			const done = plan({} as Tx).next();
			assert(done.done === true, 'the record is written by a plan of its own, which yields nothing here');
			return done.value;
		},
	};
	const written: AuditEvent[] = [];
	const refusals = new RefusalLog({
		store,
		clock,
		*appendAudit(_tx, _ctx, event) {
			written.push(event);
			return '';
		},
	});
	return { refusals, written };
}

test('one organization that is refused in a thousand ways takes no room from another', async () => {
	const clock = new VirtualClock();
	const { refusals, written } = recordedBy(clock);
	await using log = refusals;
	const as = (id: string, method: string) => {
		const ctx = systemContext('test', clock, silentLogger, 'c');
		return { ...ctx, method, actor: { ...ctx.actor, id } };
	};
	const refuse = (id: string, method: string, organizations: readonly string[]) =>
		log.record(as(id, method), { action: 'nodes.get', target: `nodes/${method}`, organizations }, denied);
	for (let index = 0; index < 2000; index += 1) await refuse(`account-${index % 40}`, `m${index}`, ['noisy']);
	for (let index = 0; index < 2000; index += 1) await refuse('', `m${index}`, []);
	const noise = written.length;
	await refuse('probe', 'm', ['quiet']);
	expect(written.slice(noise)).toMatchObject([{ action: 'nodes.get', target: 'nodes/m', organization: 'quiet' }]);
	expect(written.filter(({ organization }) => organization === 'noisy').length).toBeLessThan(70);
	expect(noise).toBeLessThan(1100);
	await log.flush();
	// Nothing is lost: what shared a record is counted in it.
	const sum = (of: string | undefined) =>
		written
			.filter(({ organization }) => organization === of)
			.reduce((total, { detail }) => total + Number(detail?.coalesced ?? 1), 0);
	expect([sum('noisy'), sum(undefined), sum('quiet')]).toEqual([2000, 2000, 1]);
});

test('a refusal that could not be written is counted, and written once the store is back', async () => {
	const clock = new VirtualClock();
	let isAway = true;
	const { refusals, written } = recordedBy(clock, () => isAway);
	await using log = refusals;
	const ctx = systemContext('test', clock, silentLogger, 'c');
	await log.record(ctx, { action: 'nodes.get', target: 'nodes/n', organizations: ['acme'] }, denied);
	await log.flush();
	expect(written).toEqual([]);
	isAway = false;
	await log.flush();
	expect(written).toMatchObject([{ action: 'nodes.get', organization: 'acme', detail: { coalesced: 1 } }]);
});
