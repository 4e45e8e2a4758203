import { GpuaasError } from '../kit/error.ts';

/** Reads a value of unknown form by path; the first thing that is wrong is said with its path. */
export class DocumentReader {
	readonly value: unknown;
	readonly path: string;

	constructor(value: unknown, path = 'policy') {
		this.value = value;
		this.path = path;
	}

	fail(problem: string): GpuaasError {
		return new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'HEALTH_POLICY_INVALID',
			message: `the health policy is not used: ${this.path} ${problem}; see one that is right with: gpuaas health policy show --json`,
			metadata: { path: this.path },
		});
	}

	/** Throws for fields that are not among `known`: a misspelt one would be a rule that never counts. */
	fields(known?: readonly string[]): ReadonlyMap<string, DocumentReader> {
		if (typeof this.value !== 'object' || this.value === null || Array.isArray(this.value))
			throw this.fail('is not an object');
		const entries = Object.entries(this.value).filter(([, value]) => value !== undefined);
		for (const [key] of entries)
			if (known?.includes(key) === false)
				throw this.fail(`has the unknown field ${JSON.stringify(key)}; there are ${known.join(', ')}`);
		return new Map(entries.map(([key, value]) => [key, new DocumentReader(value, `${this.path}.${key}`)]));
	}

	items(): readonly DocumentReader[] {
		if (!Array.isArray(this.value)) throw this.fail('is not a list');
		return this.value.map((item, index) => new DocumentReader(item, `${this.path}[${index}]`));
	}

	text(): string {
		if (typeof this.value !== 'string' || this.value.length > 256)
			throw this.fail('is not a text of at most 256 characters');
		return this.value;
	}

	number(min: number, max = Number.MAX_SAFE_INTEGER): number {
		const { value } = this;
		if (typeof value !== 'number' || !(value >= min && value <= max))
			throw this.fail(`is not a number from ${min} to ${max}`);
		return value;
	}

	whole(min: number, max?: number): number {
		if (!Number.isInteger(this.value)) throw this.fail('is not a whole number');
		return this.number(min, max);
	}

	flag(): boolean {
		if (typeof this.value !== 'boolean') throw this.fail('is neither true nor false');
		return this.value;
	}

	oneOf<T extends string>(words: readonly T[]): T {
		const found = words.find((word) => word === this.value);
		if (found === undefined) throw this.fail(`is none of ${words.join(', ')}`);
		return found;
	}
}

export type Fields = ReadonlyMap<string, DocumentReader>;

export function required(owner: DocumentReader, fields: Fields, key: string): DocumentReader {
	const found = fields.get(key);
	if (found === undefined) throw owner.fail(`lacks the field ${JSON.stringify(key)}`);
	return found;
}
