import { committedRealm, type Keycloak } from './keycloak.ts';

/**
 * Where a live realm departs from the committed one: everything that the file says must be so, compared by name, without
 * ids and secrets. What the file doesn't mention is Keycloak's default and not ours to watch. The console's addresses are
 * each installation's own.
 */
const OWN_BY_INSTALLATION = new Set(['clients.gpuaas-console.redirectUris', 'backchannel.logout.url']);

export async function realmDrift(keycloak: Keycloak): Promise<readonly string[]> {
	const live = await keycloak.admin<Record<string, unknown>>(
		'POST',
		'partial-export?exportClients=true&exportGroupsAndRoles=true',
	);
	return [...differences(committedRealm(), live, '')];
}

function* differences(wanted: unknown, found: unknown, path: string): Generator<string> {
	if (OWN_BY_INSTALLATION.has(path) || OWN_BY_INSTALLATION.has(path.split('.attributes.')[1] ?? '')) return;
	if (Array.isArray(wanted) && wanted.every((item) => typeof item === 'object')) {
		for (const item of wanted) {
			const name = nameOf(item);
			const same = Array.isArray(found) ? found.find((other) => nameOf(other) === name) : undefined;
			if (same === undefined) yield `${path}.${name}: missing`;
			else yield* differences(item, same, `${path}.${name}`);
		}
		return;
	}
	if (typeof wanted === 'object' && wanted !== null && !Array.isArray(wanted)) {
		for (const [key, value] of Object.entries(wanted)) {
			const there: unknown = typeof found === 'object' && found !== null ? Reflect.get(found, key) : undefined;
			yield* differences(value, there, path === '' ? key : `${path}.${key}`);
		}
		return;
	}
	const text = canonical(found);
	if (text !== canonical(wanted)) yield `${path}: ${text}, not ${canonical(wanted)}`;
}

/** Lists of texts are sets; the map of authentication classes is JSON in a text, in any order. */
function canonical(value: unknown): string {
	if (Array.isArray(value)) return JSON.stringify(value.map(String).sort());
	if (typeof value === 'string' && value.startsWith('{')) {
		const entries = Object.entries(JSON.parse(value) as Record<string, unknown>).map(([key, item]) => [
			key,
			String(item),
		]);
		return JSON.stringify(entries.sort());
	}
	return JSON.stringify(value);
}

function nameOf(item: unknown): string {
	for (const key of ['clientId', 'username', 'alias', 'name', 'flowAlias', 'authenticator']) {
		const name: unknown = typeof item === 'object' && item !== null ? Reflect.get(item, key) : undefined;
		if (typeof name === 'string' && name !== '') return name;
	}
	return JSON.stringify(item);
}
