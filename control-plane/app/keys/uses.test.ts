import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import type { CredentialUseRow } from '../../store/port/api-keys.ts';
import type { Store, Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { KeyUses } from './uses.ts';

/** What is kept of the use of keys, and when it is written. */
let clock: VirtualClock;
let written: (readonly CredentialUseRow[])[];
let isDown: boolean;
let uses: KeyUses;
beforeEach(() => {
	clock = new VirtualClock();
	written = [];
	isDown = false;
	const apiKeys = {
		*recordUses(rows: readonly CredentialUseRow[]): Plan<void> {
			written.push(rows);
		},
	};
	const unit = async <Value>(plan: (tx: Tx) => Plan<Value>): Promise<void> => {
		if (isDown) throw new Error('the database is gone');
		plan({ apiKeys } as Tx).next();
	};
	uses = new KeyUses({ store: { unit } as Store, clock, log: silentLogger });
});
afterEach(() => uses[Symbol.asyncDispose]());

test('a key in use costs one write a minute, with its newest use', async () => {
	for (let count = 0; count < 500; count += 1) {
		uses.seen('a', `10.0.0.${count % 250}`);
		clock.advance(100);
	}
	expect(written).toEqual([]);
	const usedAtMs = clock.now() - 100;
	clock.advance(10_000);
	expect(written).toEqual([[{ credentialId: 'a', usedAtMs, peer: '10.0.0.249' }]]);
	clock.advance(600_000);
	expect(written).toHaveLength(1);
});

test('what is not written yet is bounded', () => {
	for (let count = 0; count < 10_000; count += 1) uses.seen(`key-${count}`, '');
	expect(written.map(({ length }) => length)).toEqual([10_000]);
});

test('a use that could not be written is no trouble of who used the key', async () => {
	uses.seen('a', '');
	isDown = true;
	await uses.flush();
	isDown = false;
	uses.seen('b', '');
	await uses.flush();
	expect(written.map((rows) => rows.map(({ credentialId }) => credentialId))).toEqual([['b']]);
});
