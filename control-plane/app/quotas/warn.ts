import type { QuotaRow } from '../../store/port/quotas.ts';

const NEAR = 0.8;

/** Whether most of a limit is used; a limit of nothing is meant to be full. */
export function nearLimit({ limitMax, used, reserved }: QuotaRow): boolean {
	return limitMax !== null && limitMax > 0 && used + reserved >= NEAR * limitMax;
}
