import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

export type ScopeKind = 'platform' | 'organization' | 'department' | 'project';
/** `locked`: suspended by the platform, which alone can resume it. */
export type ScopeState = 'active' | 'suspended' | 'locked' | 'deleting' | 'deleted';

/**
 * A place in the one tree: platform > organizations > departments, nested > projects. `name` never changes and is never
 * used again; `path` is where it stands now: `/`, `/acme/`, `/acme/d.research/p.train/`.
 */
export interface ScopeRow {
	/** `platform`, `organizations/acme`, `organizations/acme/departments/research`, `organizations/acme/projects/train`. */
	readonly name: string;
	readonly kind: ScopeKind;
	/** Id of the organization that it is or is in; empty for the platform. */
	readonly organization: string;
	/** Last part of the name; unique among those of its kind in the organization. */
	readonly id: string;
	/** Name of the scope above; null for the platform. */
	readonly parent: string | null;
	readonly path: string;
	readonly displayName: string;
	/** What the display name looks like: two of one kind under one parent can't be taken for each other. */
	readonly skeleton: string;
	readonly state: ScopeState;
	readonly stateReason: string;
	/** End of the grace period, while `deleting`. */
	readonly deleteAtMs: number | null;
	readonly createdAtMs: number;
	readonly createdBy: string;
	/** Rises with every change: the etag. */
	readonly version: number;
}

export type ScopePatch = Partial<
	Pick<ScopeRow, 'parent' | 'path' | 'displayName' | 'skeleton' | 'state' | 'stateReason' | 'deleteAtMs'>
>;

/**
 * What a caller may see: everything, or what lies below the paths of `grants` and not below one of `denials`. Made by
 * app/iam from the same bindings that `decide` looks at, so that a list is exactly what may be got.
 */
export type Visibility =
	| { readonly all: true }
	| {
			readonly all: false;
			/** Rows of no project, too. */
			readonly unowned: boolean;
			/** Rows of deleted projects, too. */
			readonly deleted: boolean;
			readonly grants: readonly string[];
			readonly denials: readonly string[];
	  };

export interface Scopes {
	/** Throws ALREADY_EXISTS for a name that was ever used, or a display name that looks like a sibling's. */
	insert(row: ScopeRow): Plan<void>;
	/** Also deleted ones. */
	get(name: string): Plan<ScopeRow | undefined>;
	/** In no order; locks nothing. */
	getMany(names: readonly string[]): Plan<readonly ScopeRow[]>;
	/** The scopes at exactly these paths, in no order. */
	atPaths(paths: readonly string[]): Plan<readonly ScopeRow[]>;
	/** The changed row, or undefined when its version is not `ifVersion`. */
	update(name: string, patch: ScopePatch, ifVersion?: number): Plan<ScopeRow | undefined>;
	/** Gives everything below `fromPath` (not itself) the same place below `toPath`. */
	movePaths(fromPath: string, toPath: string): Plan<void>;
	/** Below `path`, without itself and without deleted ones; by path. */
	listBelow(path: string, limit: number): Plan<readonly ScopeRow[]>;
	countBelow(path: string): Plan<number>;
	/** Not deleted, of this kind, directly below `parent`. */
	findBySkeleton(parent: string, kind: ScopeKind, skeleton: string): Plan<ScopeRow | undefined>;
	/** Names at and below `path`, without deleted ones. */
	namesIn(path: string): Plan<readonly string[]>;
	/** What is at and below `path`. */
	countIn(path: string): Plan<{
		readonly scopes: number;
		/** Service accounts and groups. */
		readonly principals: number;
		readonly bindings: number;
		readonly openAssignments: number;
	}>;
	/** Everything at and below `path`. */
	markDeleted(path: string): Plan<void>;
	/** Not deleted; by name. `parent` null: any. */
	list(
		page: Page & {
			readonly visibility: Visibility;
			readonly organization: string | null;
			readonly parent: string | null;
			readonly kinds: readonly ScopeKind[];
		},
	): Plan<readonly ScopeRow[]>;
	/** `deleting` and due at `nowMs`. */
	listDeletionsDue(nowMs: number, limit: number): Plan<readonly ScopeRow[]>;
}
