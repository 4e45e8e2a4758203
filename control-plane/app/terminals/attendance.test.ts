import { describe, expect, test } from 'vitest';
import type { SessionRow } from '../../store/port/sessions.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { type Attendance, attendance } from './attendance.ts';

const attached = { detachedAtMs: null } as TerminalRow;
const left = { detachedAtMs: 5 } as TerminalRow;

function seen(change: { viewers?: number; isConnected?: boolean; session?: Partial<SessionRow> }): Attendance {
	const { viewers, isConnected = false, session } = change;
	const relay = viewers === undefined ? undefined : { viewers: { size: viewers }, isConnected };
	const row = { replicaId: 'here', disconnectedAtMs: null, lostAtMs: null, leaseUntilMs: 200, ...session };
	return {
		relay: relay as unknown as Attendance['relay'],
		session: session === undefined ? undefined : (row as SessionRow),
		replicaId: 'here',
		nowMs: 100,
	};
}

describe('who is attached to a terminal', () => {
	test('is nobody after a crash: the grace begins when it is first looked at', () => {
		expect(attendance(attached, seen({}))).toEqual({ detachedAtMs: 100 });
		expect(attendance(attached, seen({ session: {} }))).toEqual({ detachedAtMs: 100 });
		expect(attendance(attached, seen({ viewers: 0, isConnected: true }))).toEqual({ detachedAtMs: 100 });
		expect(attendance(left, seen({}))).toBeUndefined();
	});

	test('is said by the replica that has the node, and by any when none has', () => {
		expect(attendance(attached, seen({ session: { replicaId: 'there' } }))).toBeUndefined();
		expect(attendance(attached, seen({ viewers: 0, session: { replicaId: 'there' } }))).toBeUndefined();
		for (const gone of [{ leaseUntilMs: 99 }, { lostAtMs: 1 }, { disconnectedAtMs: 1 }])
			expect(attendance(attached, seen({ session: { replicaId: 'there', ...gone } }))).toEqual({ detachedAtMs: 100 });
	});

	test('is whoever is here, whatever was kept', () => {
		expect(attendance(attached, seen({ viewers: 1 }))).toBeUndefined();
		expect(attendance(left, seen({ viewers: 1 }))).toEqual({ detachedAtMs: null });
	});
});
