import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { VirtualClock } from '../kit/virtual-clock.ts';
import { when } from './show.ts';
import { signalName } from './signal-name.ts';
import { testIo } from './test-io.ts';

test('a moment is said as such, and how long ago it was', () => {
	const io = { ...testIo(), clock: new VirtualClock() };
	const atMs = Math.floor(io.clock.now() / 1000) * 1000 - 60_000;
	const iso = new Date(atMs).toISOString().replace('.000Z', 'Z');
	expect(when(io, timestampFromMs(atMs))).toBe(`${iso} (60 s ago)`);
	expect(when(io, undefined)).toBe('-');
});

test('signals have the names that everybody knows them by', () => {
	expect([9, 15, 99].map(signalName)).toEqual(['SIGKILL', 'SIGTERM', 'signal 99']);
});
