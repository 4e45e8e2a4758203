/**
 * A benchmark: one row of the table, one file. It measures the product beside a bare reference in the same run, because
 * a number alone says more about the machine than about us; the ratio travels. Rows only measure and tell: nothing here
 * asserts a time, and no test runs them.
 *
 * `main.ts` runs each row in a process of its own, so that no row inherits another's heap.
 */
export interface Row {
	/** As on the command line, and the name of its results. */
	readonly name: string;
	readonly what: string;
	readonly unit: string;
	readonly reference: string;
	/** What `n` counts: tasks, agents, milliseconds of round trip. */
	readonly per: string;
	readonly targets: readonly Target[];
	/** n, 10 n, 100 n where that makes sense. */
	readonly sizes: Choice<readonly number[]>;
	/** Of each size: medians are of so many. */
	readonly repetitions: Choice<number>;
	/** A full run stops growing past this, unless it was told to be patient; a quick one at a quarter. */
	readonly budgetSeconds: number;
	/** Starts what the row measures. */
	open(): Promise<Bench>;
}

export interface Choice<T> {
	readonly full: T;
	readonly quick: T;
}

export interface Bench extends AsyncDisposable {
	/** One repetition at one size: the product and its reference, one right after the other. */
	run(n: number): Promise<Sample>;
}

export interface Sample {
	readonly value: number;
	/** In the same unit; undefined where there is none at this size. */
	readonly reference: number | undefined;
	/** Further numbers, their unit in their name. */
	readonly also?: Readonly<Record<string, number>>;
}

export interface Target {
	readonly text: string;
	/** Undefined: not measured at a size that says so. */
	isMet(points: readonly Point[]): boolean | undefined;
}

export interface Spread {
	readonly median: number;
	readonly min: number;
	readonly max: number;
}

/** All repetitions of one size. */
export interface Point {
	readonly n: number;
	readonly repetitions: number;
	readonly value: Spread;
	readonly reference: Spread | null;
	/** Value over reference. */
	readonly ratio: Spread | null;
	readonly also: Readonly<Record<string, Spread>>;
}

export interface Result {
	readonly row: string;
	readonly what: string;
	readonly unit: string;
	readonly per: string;
	readonly reference: string;
	readonly quick: boolean;
	/** Sizes that would have taken too long here. */
	readonly skipped: readonly number[];
	readonly points: readonly Point[];
	readonly targets: readonly { readonly text: string; readonly met: boolean | null }[];
	readonly seconds: number;
	readonly machine: Machine;
}

export interface Machine {
	readonly cores: number;
	readonly memoryGiB: number;
	readonly arch: string;
	readonly node: string;
	/** Of the last minute when the row began: above the number of cores somebody else was busy too. */
	readonly loadBefore: number;
}

export function atLeast(limit: number, text: string, of: (point: Point) => number | undefined): Target {
	return target(text, of, (number) => number >= limit);
}

export function atMost(limit: number, text: string, of: (point: Point) => number | undefined): Target {
	return target(text, of, (number) => number <= limit);
}

/** Every point that has the number must reach it. */
function target(text: string, of: (point: Point) => number | undefined, isMet: (number: number) => boolean): Target {
	return {
		text,
		isMet(points) {
			const numbers = points.map(of).filter((number) => number !== undefined);
			return numbers.length === 0 ? undefined : numbers.every(isMet);
		},
	};
}

export function largest(points: readonly Point[]): Point | undefined {
	return points.at(-1);
}
