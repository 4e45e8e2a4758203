/**
 * Removes secrets from anything that is about to leave the process as text. Values are recognised by their shape, so
 * that a secret is caught wherever it hides: a message, a nested field, an error's cause, a subprocess's stderr.
 * Names catch the rest (`password: "hunter2"`). Called by kit/log.ts on every line; also fit for bundles and errors.
 */

/** Every pattern ends at characters that JSON escapes, so replacing inside a serialised line keeps it valid JSON. */
const SECRET_VALUE = new RegExp(
	[
		// Join tokens and API keys (gpu_jt_, gpu_uk_, gpu_sk_, gpu_bg_) and invitations (gpu_inv_): all that follows belongs to the secret.
		String.raw`\bgpu_(?<kind>jt|uk|sk|bg|inv)_[A-Za-z0-9_.~+/=:-]+`,
		// Private keys in PEM, with real or JSON-escaped line ends; a truncated one counts too. Bounded by quotes.
		String.raw`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?:[^"\\]|\\[^"])*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----|(?=\\?"|$))`,
		String.raw`\b(?<scheme>Bearer|Basic|DPoP)\s+[A-Za-z0-9._~+/=-]{8,}`,
		// Compact JWS and JWE: base64url of `{"` starts with eyJ.
		String.raw`\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){2,4}`,
		// Credentials in a URL (postgres://user:password@host).
		String.raw`(?<url>\b[a-z][a-z0-9+.-]{1,20}://[^\s:@/"\\]{0,128}:)[^\s@/"\\]{1,512}(?=@)`,
	].join('|'),
	'g',
);

/** Names whose values are secret whatever they look like. Compared without `_`, `-` and case. */
const SECRET_NAMES = new Set(
	(
		'authorization proxyauthorization cookie setcookie password passphrase passwd secret clientsecret jointoken ' +
		'apikey accesstoken refreshtoken idtoken bearertoken privatekey secretkey pepper pin'
	).split(' '),
);

const DEPTH_MAX = 6;
const KEYS_MAX = 64;
const STRING_LENGTH_MAX = 8192;

/** `text` with every recognised secret replaced by `[redacted]`. */
export function redactText(text: string): string {
	return text.replace(SECRET_VALUE, (...match) => {
		const groups = match.at(-1) as Record<string, string | undefined>;
		if (groups.kind !== undefined) return `gpu_${groups.kind}_[redacted]`;
		if (groups.scheme !== undefined) return `${groups.scheme} [redacted]`;
		return `${groups.url ?? ''}[redacted]`;
	});
}

/** Whether a field of this name must never be shown. */
export function isSecretName(name: string): boolean {
	return SECRET_NAMES.has(name.replaceAll(/[_-]/g, '').toLowerCase());
}

/**
 * A bounded plain copy of `value` that JSON can hold: secrets by name removed, bytes as their length (a key as an
 * array of numbers matches no pattern), errors with code, reason, stack and causes, cycles and depth cut.
 */
export function redactValue(value: unknown, depth = 0): unknown {
	if (typeof value === 'string') return redactText(clip(value));
	if (typeof value === 'bigint') return value.toString();
	if (typeof value === 'function' || typeof value === 'symbol') return `<${typeof value}>`;
	if (typeof value !== 'object' || value === null) return value;
	if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `<${value.byteLength} bytes>`;
	if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
	if (depth >= DEPTH_MAX) return '<deep>';
	if (value instanceof Error) return redactError(value, depth);
	if (Array.isArray(value)) return redactItems(value, value.length, depth);
	if (value instanceof Set) return redactItems(value, value.size, depth);
	return redactEntries(value instanceof Map ? value : Object.entries(value), depth);
}

function clip(text: string): string {
	if (text.length <= STRING_LENGTH_MAX) return text;
	return `${text.slice(0, STRING_LENGTH_MAX)}… <${text.length - STRING_LENGTH_MAX} more characters>`;
}

function redactItems(items: Iterable<unknown>, size: number, depth: number): unknown[] {
	const copy: unknown[] = [];
	for (const item of items) {
		if (copy.length >= KEYS_MAX) {
			copy.push(`<${size - KEYS_MAX} more>`);
			break;
		}
		copy.push(redactValue(item, depth + 1));
	}
	return copy;
}

function redactEntries(entries: Iterable<readonly [unknown, unknown]>, depth: number): Record<string, unknown> {
	const copy: Record<string, unknown> = {};
	let keys = 0;
	for (const [key, item] of entries) {
		keys += 1;
		if (keys > KEYS_MAX) continue;
		const name = redactText(String(key));
		if (name === '__proto__') continue;
		copy[name] = isSecretName(name) ? '[redacted]' : redactValue(item, depth + 1);
	}
	if (keys > KEYS_MAX) copy['…'] = `<${keys - KEYS_MAX} more>`;
	return copy;
}

/** Own enumerable fields carry what libraries attach (`code`, `errno`, `reason`, `metadata`). */
function redactError(error: Error, depth: number): Record<string, unknown> {
	const copy = redactEntries(Object.entries(error), depth);
	copy.type = error.name;
	copy.message = redactText(clip(error.message));
	if (error.stack !== undefined && depth <= 1) copy.stack = redactText(clip(error.stack));
	if (error.cause !== undefined) copy.cause = redactValue(error.cause, depth + 1);
	if (error instanceof AggregateError) copy.errors = redactValue(error.errors, depth + 1);
	return copy;
}
