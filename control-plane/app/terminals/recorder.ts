import type { TerminalRow } from '../../store/port/terminals.ts';

/**
 * What records a terminal. The relay gives it everything once and in order, before any viewer sees it, and lets the
 * node go on only while little of it waits: a recording that must not have gaps holds the terminal back, never the
 * reverse.
 */
export interface Recorder {
	output(data: Uint8Array): void;
	input(data: Uint8Array): void;
	resize(columns: number, rows: number): void;
	/** Of a terminal that had parts before: it begins with a screen. */
	readonly isLater: boolean;
	/** The first byte of output that isn't recorded yet; undefined until `beginsAt`, when the part before doesn't say. */
	readonly outputAt: number | undefined;
	/** The output begins here, as far as is known; what came before it is missing if nothing says where it should begin. */
	beginsAt(offset: number): void;
	/** What the terminal looks like: nothing of the output is missing. */
	screen(data: Uint8Array): void;
	/** Output from..to never came: a marker says so, and this screen stands in its place. */
	gap(from: number, to: number, screen: Uint8Array): void;
	/** Who came and who left. */
	marker(text: string): void;
	/** Taken and not written yet. */
	readonly backlogBytes: number;
	/** Called whenever less waits than before. */
	onDrain(listener: () => void): void;
	/** Once; resolves when it is sealed. */
	end(why: string): Promise<void>;
}

export type RecorderOutcome =
	| { readonly kind: 'recording'; readonly recorder: Recorder }
	/** Nobody may go on without a recording. */
	| { readonly kind: 'refused'; readonly reason: string; readonly message: string }
	/** `isNews`: it should have been recorded, and whoever is there must know. */
	| { readonly kind: 'unrecorded'; readonly why: string; readonly isNews: boolean };

export interface RecorderFactory {
	/**
	 * Asked once for each terminal with a pty, before its first byte. `onFailure` may come at any later time: with
	 * `isFatal` the terminal ends with that reason.
	 */
	open(
		terminal: TerminalRow,
		/** Of the terminal now; undefined when its agent doesn't say. */
		size: { readonly columns: number; readonly rows: number } | undefined,
		onFailure: (isFatal: boolean, reason: string, message: string) => void,
	): Promise<RecorderOutcome>;
}

/** Where nothing records. */
export const NO_RECORDER: RecorderFactory = Object.freeze({
	open: async () => ({
		kind: 'unrecorded' as const,
		why: 'this installation records nothing',
		isNews: false,
	}),
});
