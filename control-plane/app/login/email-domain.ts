/**
 * Whose address it is; empty: can't be told for sure. A quoted local part may hold an @ (`"a@acme.example"@evil.example`),
 * and readers of addresses differ on where such a one ends, so none with a quote or a second @ is believed.
 */
export function emailDomain(email: string): string {
	const at = email.lastIndexOf('@');
	return at < 1 || email.includes('"') || email.indexOf('@') !== at ? '' : email.slice(at + 1);
}
