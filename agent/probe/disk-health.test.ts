import { expect, it } from 'vitest';
import { isAnswer, SMART, without } from './disk-health.ts';

it('only what a disk itself said is an answer of it', () => {
	const said = (smart: number, more = {}) => isAnswer({ ...without('sda', smart, ''), ...more });
	expect([said(SMART.read), said(SMART.asleep), said(SMART.none, { isItsWord: true })]).toEqual([true, true, true]);
	expect([SMART.none, SMART.noProgram, SMART.failed, SMART.hung].filter((smart) => said(smart))).toEqual([]);
});
