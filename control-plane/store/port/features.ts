import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** How far a feature is on at a scope and below it. */
export interface FeatureRow {
	readonly name: string;
	/** Name of a scope; `platform`: everywhere. */
	readonly scope: string;
	/** Id; empty for the platform. */
	readonly organization: string;
	/** Of those who ask, by a stable hash: 0 is off, 100 on. */
	readonly percentage: number;
	readonly reason: string;
	readonly changedAtMs: number;
	readonly changedBy: string;
	readonly version: number;
}

export interface Features {
	/** In a unit, nobody else changes it until the commit. */
	get(name: string, scope: string): Plan<FeatureRow | undefined>;
	insert(row: FeatureRow): Plan<void>;
	/** The changed row, or undefined when its version is not `ifVersion`. */
	update(
		name: string,
		scope: string,
		to: Pick<FeatureRow, 'percentage' | 'reason' | 'changedAtMs' | 'changedBy'>,
		ifVersion: number,
	): Plan<FeatureRow | undefined>;
	/** False when its version is not `ifVersion`. */
	delete(name: string, scope: string, ifVersion: number): Plan<boolean>;
	count(): Plan<number>;
	/** All, at most `limit`, by name and scope. */
	all(limit: number): Plan<readonly FeatureRow[]>;
	/** Of these names, at scopes after `page.afterId` as `name scope`. */
	list(page: Page): Plan<readonly FeatureRow[]>;
}
