/** As people count: gpu-2 before gpu-10. One order for all names, whatever else is equal. */
const NAMES = new Intl.Collator('en', { numeric: true });

export function byNodeName(left: { readonly name: string }, right: { readonly name: string }): number {
	return NAMES.compare(left.name, right.name) || (left.name < right.name ? -1 : left.name > right.name ? 1 : 0);
}
