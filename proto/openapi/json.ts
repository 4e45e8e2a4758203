/** A JSON value that is built up: what an OpenAPI document is made of. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Without the entries that are undefined, so that optional keywords can be written in place. */
export function compact(entries: Readonly<Record<string, Json | undefined>>): JsonObject {
	return Object.fromEntries(Object.entries(entries).filter((entry): entry is [string, Json] => entry[1] !== undefined));
}
