import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

/** That a scope, and all below it, may have something by contract, in a half-open span. */
export interface EntitlementRow {
	readonly id: string;
	/** Name of an organization, department or project. */
	readonly scope: string;
	/** Id. */
	readonly organization: string;
	/** `gpu-model/NVIDIA H100 80GB HBM3`, `gpu-model/*`, `feature/host-mode`. */
	readonly subject: string;
	readonly fromMs: number;
	/** Null: without end. */
	readonly untilMs: number | null;
	readonly reason: string;
	readonly createdAtMs: number;
	readonly createdBy: string;
	readonly version: number;
}

export interface Entitlements {
	insert(row: EntitlementRow): Plan<void>;
	get(id: string): Plan<EntitlementRow | undefined>;
	/** The changed row, or undefined when its version is not `ifVersion`. */
	end(id: string, untilMs: number, ifVersion: number): Plan<EntitlementRow | undefined>;
	/** At exactly these scopes, of these subjects, in force at `atMs`. */
	inForce(scopes: readonly string[], subjects: readonly string[], atMs: number): Plan<readonly EntitlementRow[]>;
	/** At exactly these scopes; by id. */
	list(page: Page & { readonly scopes: readonly string[] }): Plan<readonly EntitlementRow[]>;
	/** That haven't ended at `nowMs`. */
	countOpen(scope: string, nowMs: number): Plan<number>;
}
