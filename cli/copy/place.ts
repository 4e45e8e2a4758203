/** One side of a copy, as a person writes it: `NODE:PATH`, or a path here. */
export type Place =
	| { readonly kind: 'node'; readonly node: string; readonly path: string }
	| { readonly kind: 'local'; readonly path: string };

/** Before the colon a node's name or id; a path here that looks like one begins with `./`. */
const REMOTE = /^([A-Za-z0-9][A-Za-z0-9._-]{0,63}):(.*)$/s;

export function parsePlace(text: string): Place {
	const [, node, path] = REMOTE.exec(text) ?? [];
	return node === undefined || path === undefined ? { kind: 'local', path: text } : { kind: 'node', node, path };
}
