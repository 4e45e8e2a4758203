import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UNLIMITED } from '../../control-plane/app/iam/decide.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { loadActor, NO_LIMITS, type PrincipalActor } from '../../control-plane/app/iam/principal.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { SqliteStore } from '../../control-plane/store/sqlite/store.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { bindingRow, principalRow, scopeRow } from '../contract/store/rows.ts';

/** A store, of SQLite unless said, with an organization of many projects, or with many bindings of many principals. */
export class IamBench implements AsyncDisposable {
	readonly store: Store;
	readonly policies = new PolicyCache();
	readonly #folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-iam-'));
	#projects = 0;
	#bindings = 0;

	/** Owns the store that it is given. */
	constructor(store?: Store) {
		this.store = store ?? new SqliteStore({ at: { path: join(this.#folder, 'store.db') }, clock: systemClock });
	}

	/** Ada is a developer of every project. */
	async found(projects: number): Promise<void> {
		const from = this.#projects;
		await this.store.unit(function* (tx) {
			if (from === 0) {
				yield* tx.scopes.insert(scopeRow('organizations/acme', '/acme/'));
				yield* tx.identities.insertPrincipal(principalRow('ada'));
				yield* tx.access.insertBinding(bindingRow('ada', 'ada', { role: 'tenant.developer' }));
			}
			for (let index = from; index < projects; index += 1)
				yield* tx.scopes.insert(scopeRow(`organizations/acme/projects/p${index}`, `/acme/p.p${index}/`));
		});
		this.#projects = Math.max(from, projects);
	}

	/** Of others, a hundred each: what Ada's requests must not pay for. */
	async bind(bindings: number): Promise<void> {
		const from = this.#bindings;
		await this.store.unit(function* (tx) {
			for (let index = from; index < bindings; index += 1) {
				const principal = `p${Math.floor(index / 100)}`;
				if (index % 100 === 0) yield* tx.identities.insertPrincipal(principalRow(principal));
				const scope = `organizations/acme/projects/p${index % 100}`;
				yield* tx.access.insertBinding(bindingRow(`b${index}`, principal, { scope, role: 'tenant.viewer' }));
			}
		});
		this.#bindings = Math.max(from, bindings);
	}

	async ada(): Promise<PrincipalActor> {
		const { policies } = this;
		const nowMs = systemClock.now();
		return await this.store.read(function* (tx) {
			const view = yield* policies.committed(tx);
			const row = present(yield* tx.identities.getPrincipal('ada'), 'she was made');
			const verified = { kind: 'access_token', id: 'a', expiresAtMs: null, limits: NO_LIMITS } as const;
			return { ...(yield* loadActor(tx, view, row, verified, nowMs)), limit: UNLIMITED };
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.store[Symbol.asyncDispose]();
		rmSync(this.#folder, { recursive: true, force: true });
	}
}
