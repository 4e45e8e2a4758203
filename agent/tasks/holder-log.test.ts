import { expect, test } from 'vitest';
import { LogRing } from '../../kit/log-ring.ts';
import { HolderLog } from './holder-log.ts';

test('shows a tenant what was logged since its own first task, and the platform all', () => {
	const ring = new LogRing({ write: () => {} }, 1000);
	const log = new HolderLog(ring);
	ring.write('start\n');
	log.heard('one');
	ring.write('of one\n');
	log.heard('one');
	expect(log.textFor('one')).toBe('of one\n');
	log.heard('');
	log.heard('two');
	ring.write('of two\n');
	expect(log.textFor('two')).toBe('of two\n');
	expect(log.textFor('')).toBe('start\nof one\nof two\n');
	// One that came late: the node is somebody else's.
	expect(log.textFor('one')).toBe('');
	log.heard('one');
	expect(log.textFor('one')).toBe('');
});
