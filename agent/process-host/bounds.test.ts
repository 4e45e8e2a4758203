import { expect, it } from 'vitest';
import { HostFixture, launched, request, resultOf, uniqueSeconds } from './host-fixture.ts';

async function reasonOf(fixture: HostFixture, more: Parameters<typeof request>[1] = {}): Promise<string> {
	const outcome = await fixture.host.launch(request(['true'], more));
	return outcome.kind === 'REFUSED' ? outcome.reason : outcome.kind;
}

it('refuses more running tasks than it may have, until one ends', async () => {
	await using fixture = await HostFixture.start({ runningMax: 1 });
	const first = await launched(fixture.host, request(['sleep', uniqueSeconds()]));
	expect(await reasonOf(fixture)).toBe('TOO_MANY_TASKS');
	await fixture.host.cancel(first, 0);
	await resultOf(fixture.host, first);
	expect(await reasonOf(fixture)).toBe('STARTED');
});

it('refuses more than it may keep, until one is forgotten', async () => {
	await using fixture = await HostFixture.start({ retainedMax: 1 });
	const first = await launched(fixture.host, request(['true']));
	await resultOf(fixture.host, first);
	expect(await reasonOf(fixture)).toBe('TOO_MANY_RETAINED');
	await fixture.host.forget(first);
	expect(await reasonOf(fixture)).toBe('STARTED');
});

it('promises no more output than the spool has, and takes back what was not used', async () => {
	await using fixture = await HostFixture.start({ spoolBytesMax: 1 << 20 });
	expect(await reasonOf(fixture, { outputCapBytes: 2 << 20 })).toBe('SPOOL_FULL');
	const first = await launched(fixture.host, request(['sleep', uniqueSeconds()]));
	expect(await reasonOf(fixture)).toBe('SPOOL_FULL');
	await fixture.host.cancel(first, 0);
	await resultOf(fixture.host, first);
	expect(await reasonOf(fixture)).toBe('STARTED');
});

it('refuses when the disk is under its floor', async () => {
	await using fixture = await HostFixture.start({ diskFloorBytes: Number.MAX_SAFE_INTEGER });
	expect(await reasonOf(fixture)).toBe('DISK_FULL');
});
