/** What a check of `doctor` found. */
export interface Finding {
	readonly check: string;
	/** warn: it works, and something should be known. */
	readonly result: 'ok' | 'warn' | 'fail';
	readonly finding: string;
	/** What to do; empty when ok. */
	readonly advice: string;
}

export const ok = (check: string, finding: string): Finding => ({ check, result: 'ok', finding, advice: '' });

export const bad = (check: string, result: 'warn' | 'fail', finding: string, advice: string): Finding => ({
	check,
	result,
	finding,
	advice,
});
