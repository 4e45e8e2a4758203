import type { DescEnum } from '@bufbuild/protobuf';
import { type Path, pathToString } from '@bufbuild/protobuf/reflect';

/**
 * What a field must be, as whoever filled it reads it. The validator's own sentences are words but for patterns, of which
 * it shows the expression, and enums, of which it shows numbers. Used by every listener that validates requests.
 */
export interface Violation {
	readonly ruleId: string;
	readonly message: string;
	readonly field: Path;
	/** It is the key of a map that is wrong, not its value. */
	readonly forKey: boolean;
}

/** By the expression as the contract has it; a test holds this against every pattern of the contract. */
export const PATTERN_WORDS: Readonly<Record<string, string>> = {
	'^[0-9a-f]{16,40}$': 'must be a serial number as gpuaas cert list shows it: 16 to 40 hexadecimal digits, lower case',
	'^[a-z0-9_:.-]*$': 'may have lower case letters, digits and _ : . - only',
	'^[A-Za-z_][A-Za-z0-9_]{0,127}$':
		'must be the name of an environment variable: letters, digits and _, no digit first, at most 128 characters',
	'^(/.*)?$': 'must be an absolute path: one that begins with /',
	'^([a-z_][a-z0-9_-]{0,31})?$':
		'must be the name of an account: lower case letters, digits, _ and -, a letter or _ first, at most 32 characters',
	'^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$':
		'must be lower case letters and digits, with . _ / - only between them, at most 63 characters',
	'^[A-Za-z0-9._-]*$': 'may have letters, digits and . _ - only',
	'^[a-z0-9][a-z0-9-]*$': 'must be lower case letters, digits and -, a letter or digit first',
	'^[0-9a-fA-F.:/]+$': 'must be an IP address or a network, such as 10.0.0.0/8',
	'^[a-z]+\\.[a-z_]+$': 'must be a permission, such as tasks.create; gpuaas role show tenant.owner lists some',
	'^[a-z]+\\.([a-z_]+|[*])$': 'must be a permission, such as tasks.create, or all of a noun, such as tasks.*',
	'^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$': 'must be a domain in lower case, such as example.org',
	'^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$':
		'must be lower case letters and digits, with - only between them, at most 63 characters',
};

export function violationText({ ruleId, message, field, forKey }: Violation): {
	readonly field: string;
	readonly description: string;
} {
	const words = wordsOf(ruleId, message, field);
	return { field: pathToString(field), description: forKey ? `the key in the brackets ${words}` : words };
}

function wordsOf(ruleId: string, message: string, field: Path): string {
	if (ruleId === 'string.pattern') return PATTERN_WORDS[/`(.*)`$/s.exec(message)?.[1] ?? ''] ?? message;
	if (message === 'must be at least 1 characters') return 'must not be empty';
	if (message === 'must contain at least 1 item(s)') return 'must have at least one';
	const values = ruleId === 'enum.not_in' || ruleId === 'enum.defined_only' ? enumOf(field)?.values : undefined;
	if (values === undefined) return message;
	const names = values.filter(({ number }) => number !== 0).map(({ name }) => name);
	return `must be one of ${names.join(', ')}`;
}

function enumOf(path: Path): DescEnum | undefined {
	const field = path.findLast((each) => each.kind === 'field');
	return field?.kind === 'field' && (field.fieldKind === 'enum' || field.fieldKind === 'list') ? field.enum : undefined;
}
