import type { EntitlementRow } from '../port/entitlements.ts';
import type { FeatureRow } from '../port/features.ts';
import type { QuotaReservationRow, QuotaRow } from '../port/quotas.ts';
import { Table } from './columns.ts';

/** The tables of what scopes may have: quotas, entitlements, features. */
export const QUOTAS = new Table<QuotaRow>('quotas', {
	scope: 'text',
	kind: 'text',
	organization: 'text',
	limitMax: 'int',
	used: 'int',
	reserved: 'int',
	changedAtMs: 'int',
	changedBy: 'text',
	version: 'int',
});

export const QUOTA_RESERVATIONS = new Table<QuotaReservationRow>('quota_reservations', {
	kind: 'text',
	holder: 'text',
	scope: 'text',
	organization: 'text',
	amount: 'int',
	state: 'text',
	createdAtMs: 'int',
	expiresAtMs: 'int',
});

export const ENTITLEMENTS = new Table<EntitlementRow>('entitlements', {
	id: 'text',
	scope: 'text',
	organization: 'text',
	subject: 'text',
	fromMs: 'int',
	untilMs: 'int',
	reason: 'text',
	createdAtMs: 'int',
	createdBy: 'text',
	version: 'int',
});

export const FEATURES = new Table<FeatureRow>('features', {
	name: 'text',
	scope: 'text',
	organization: 'text',
	percentage: 'int',
	reason: 'text',
	changedAtMs: 'int',
	changedBy: 'text',
	version: 'int',
});
