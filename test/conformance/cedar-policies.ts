import type { World } from '../../control-plane/app/iam/policy-fixture.ts';
import { NOW_MS } from '../../control-plane/app/iam/policy-fixture.ts';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import type { BindingRow } from '../../control-plane/store/port/access.ts';

/**
 * The rows of a world in Cedar's language, written from the design and not from our code: bindings become permits over
 * the tree, guardrails and the key's limits forbids. Cedar walks its own hierarchy; nothing here compiles or caches.
 */
export function cedarPolicies(world: World): string {
	return [...world.bindings.flatMap((binding) => permits(world, binding)), ...forbids(world), ...limits(world)].join(
		'\n',
	);
}

export function cedarEntities({ scopes }: World) {
	return scopes.map(({ name, parent }) => ({
		uid: { type: 'Scope', id: name },
		attrs: {},
		parents: parent === null ? [] : [{ type: 'Scope', id: parent }],
	}));
}

function permits(world: World, binding: BindingRow): string[] {
	const isOver = binding.expiresAtMs !== null && binding.expiresAtMs <= NOW_MS;
	const scope = world.scopes.find(({ name }) => name === binding.scope);
	const builtIn = ROLES[binding.role];
	const held = builtIn?.permissions ?? world.roles.find(({ name }) => name === binding.role)?.permissions;
	if (isOver || scope === undefined || scope.state === 'deleted' || held === undefined) return [];
	const given = [...held].filter((name) => binding.permissions.length === 0 || binding.permissions.includes(name));
	if (builtIn?.plane === 'platform') return scope.kind === 'platform' ? [permit(given, 'resource', [])] : [];
	if (scope.kind === 'platform') return [];
	const changes = given.filter((name) => name !== 'scopes.resume');
	const resumes = given.filter((name) => name === 'scopes.resume');
	const within = `resource in ${uid(scope.name)}`;
	const gone = named(world, 'deleted').map((name) => `resource in ${uid(name)}`);
	const halted = [...named(world, 'suspended'), ...named(world, 'deleting')];
	const below = halted.map((name) => `(!context.reads && resource in ${uid(name)})`);
	const above = halted.map((name) => `(!context.reads && resource in ${uid(name)} && resource != ${uid(name)})`);
	return [permit(changes, within, [...gone, ...below]), permit(resumes, within, [...gone, ...above])];
}

function permit(permissions: readonly string[], within: string, unless: readonly string[]): string {
	if (permissions.length === 0) return '';
	const exceptions = unless.length === 0 ? '' : ` unless { ${unless.join(' || ')} }`;
	return `permit(principal, action in [${permissions.map(action).join(', ')}], ${within})${exceptions};`;
}

function forbids({ guardrails, kind }: World): string[] {
	return guardrails
		.filter(({ principalKinds }) => principalKinds.length === 0 || principalKinds.includes(kind))
		.map(({ permissions, scope }) => {
			const names = permissions.map((pattern) =>
				pattern.endsWith('.*')
					? `context.permission like "${pattern}"`
					: `context.permission == ${JSON.stringify(pattern)}`,
			);
			return `forbid(principal, action, resource in ${uid(scope)}) when { ${names.join(' || ')} };`;
		});
}

function limits({ limits: { permissions, scope } }: World): string[] {
	const found: string[] = [];
	if (permissions.length > 0)
		found.push(`forbid(principal, action, resource) unless { action in [${permissions.map(action).join(', ')}] };`);
	if (scope !== '') found.push(`forbid(principal, action, resource) unless { resource in ${uid(scope)} };`);
	return found;
}

function named({ scopes }: World, state: string): string[] {
	return scopes.filter((scope) => scope.state === state).map(({ name }) => name);
}

function uid(scope: string): string {
	return `Scope::${JSON.stringify(scope)}`;
}

function action(permission: string): string {
	return `Action::${JSON.stringify(permission)}`;
}
