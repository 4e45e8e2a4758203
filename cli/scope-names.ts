import { GpuaasError } from '../kit/error.ts';

/**
 * Short ways to write names of scopes: `platform`, `acme` for an organization, `acme/train` for its project, and the
 * full name (`organizations/acme/departments/research`) for all of them.
 */
export function scopeName(text: string, kind: 'organization' | 'department' | 'project' = 'project'): string {
	if (text === 'platform' || text.startsWith('organizations/')) return text;
	const [organization = '', id] = text.split('/');
	if (id === undefined) return `organizations/${organization}`;
	return `organizations/${organization}/${kind === 'department' ? 'departments' : 'projects'}/${id}`;
}

/** `acme/ci` or `acme/train/ci` -> `organizations/acme/.../serviceAccounts/ci`. */
export function childName(text: string, collection: 'serviceAccounts' | 'groups' | 'roles'): string {
	if (text.startsWith('organizations/') || text.startsWith('platform/')) return text;
	const at = text.lastIndexOf('/');
	if (at <= 0) {
		const builtIn = collection === 'roles' ? '; those that are built in are shown by: gpuaas role list SCOPE' : '';
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: `${JSON.stringify(text)} is not SCOPE/NAME, such as acme/${text || 'name'}${builtIn}`,
			metadata: { exit: '2' },
		});
	}
	return `${scopeName(text.slice(0, Math.max(at, 0)))}/${collection}/${text.slice(at + 1)}`;
}

/** What a call is about: `nodes/gpu-07`, `tasks/ID`, a scope in its short form too; `-` for nothing. */
export function resourceName(text: string): string {
	if (text === '-') return '';
	return /^(nodes|tasks|operations|terminals|recordings)\//.test(text) ? text : scopeName(text);
}

/** A name as people write it. */
export function shortName(name: string): string {
	return name.replace(/^organizations\//, '').replace('/projects/', '/');
}
