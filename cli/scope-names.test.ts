import { expect, it } from 'vitest';
import { childName, resourceName, scopeName, shortName } from './scope-names.ts';

it('a name without the scope that it stands at is refused, with a way to the built-in roles', () => {
	expect(() => childName('ci', 'serviceAccounts')).toThrow('"ci" is not SCOPE/NAME, such as acme/ci');
	expect(() => childName('tenant.developer', 'roles')).toThrow('gpuaas role list SCOPE');
});

it('names are written short or in full', () => {
	expect(scopeName('platform')).toBe('platform');
	expect(scopeName('acme')).toBe('organizations/acme');
	expect(scopeName('acme/train')).toBe('organizations/acme/projects/train');
	expect(scopeName('acme/lab', 'department')).toBe('organizations/acme/departments/lab');
	expect(scopeName('organizations/acme/departments/lab')).toBe('organizations/acme/departments/lab');
	expect(childName('acme/ci', 'serviceAccounts')).toBe('organizations/acme/serviceAccounts/ci');
	expect(childName('acme/train/ci', 'groups')).toBe('organizations/acme/projects/train/groups/ci');
	expect(resourceName('acme/train')).toBe('organizations/acme/projects/train');
	expect(resourceName('nodes/gpu-07')).toBe('nodes/gpu-07');
	expect(resourceName('-')).toBe('');
	expect(shortName('organizations/acme/projects/train')).toBe('acme/train');
});
