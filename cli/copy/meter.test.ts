import { expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { testIo } from '../test-io.ts';
import { CopyMeter } from './meter.ts';

const MB = 1_000_000;

function meterOn(isTerminal: boolean, isQuiet = false) {
	const clock = new VirtualClock();
	const io = { ...testIo({}, '', { stderr: isTerminal }), clock };
	return { clock, io, meter: new CopyMeter(io, isQuiet) };
}

test('one line says how far the file is and how fast, a few times a second, and once more when it is whole', async () => {
	const { clock, io, meter } = meterOn(true);
	clock.advance(1000);
	// 3 MB were there from an earlier run: they count for the percentage, not for the speed.
	meter.take({ path: 'a/weights.bin', bytes: 3 * MB, size: 10 * MB, state: 'copying' });
	clock.advance(1000);
	meter.take({ path: 'a/weights.bin', bytes: 5 * MB, size: 10 * MB, state: 'copying' });
	clock.advance(100);
	meter.take({ path: 'a/weights.bin', bytes: 6 * MB, size: 10 * MB, state: 'copying' });
	clock.advance(50);
	meter.take({ path: 'a/weights.bin', bytes: 10 * MB, size: 10 * MB, state: 'done' });
	await meter.finish();
	const [before, ...lines] = io.err().split('\r\u001b[K');
	expect(before).toBe('');
	expect(lines.map((line) => line.trim().replaceAll(/ +/g, ' '))).toEqual([
		'weights.bin 30 % 3.0 MB 0 B/s',
		'weights.bin 50 % 5.0 MB 1.0 MB/s',
		'weights.bin 100 % 10.0 MB 3.3 MB/s',
	]);
	expect(io.err().endsWith('\n')).toBe(true);
});

test('sums say what was copied, what was there, what was skipped', () => {
	const { meter } = meterOn(false);
	meter.take({ path: 'a', bytes: 0, size: 7, state: 'copying' });
	meter.take({ path: 'a', bytes: 7, size: 7, state: 'done' });
	meter.take({ path: 'b', bytes: 9, size: 9, state: 'unchanged' });
	meter.take({ path: 'c', bytes: 0, size: 0, state: 'skipped', message: 'c is a socket' });
	expect(meter.sums()).toEqual({ files: 1, bytes: 7, unchanged: 1, skipped: ['c is a socket'] });
});

test.each([
	['no terminal', false, false],
	['--quiet', true, true],
])('draws nothing: %s', async (_name, isTerminal, isQuiet) => {
	const { io, meter } = meterOn(isTerminal, isQuiet);
	meter.take({ path: 'a', bytes: 7, size: 7, state: 'done' });
	await meter.finish();
	expect(io.err()).toBe('');
});

test('control characters of a name are shown, not sent', async () => {
	const { io, meter } = meterOn(true);
	meter.take({ path: 'a\u001b[2Jb', bytes: 1, size: 1, state: 'done' });
	expect(io.err()).toContain('a\\x1b[2Jb');
});
