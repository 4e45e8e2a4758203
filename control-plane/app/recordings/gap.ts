/**
 * Output that never came from its node, in a recording: a marker at its place, and counts in row and manifest. Whoever
 * completes a recording after a crash counts the markers, so their text is exact, and no name that is part of another
 * marker reads like one.
 */
export interface Gaps {
	readonly gaps: number;
	/** Of output. */
	readonly gapBytes: number;
}

export const NO_GAPS: Gaps = Object.freeze({ gaps: 0, gapBytes: 0 });

const GAP =
	/^gap: output bytes (\d{1,16}) to (\d{1,16}) never came \((?:the link was down|nothing was recorded then)\); the screen after it follows$/;
/** Between two parts, of which the first doesn't say where it ended. */
export const UNKNOWN_GAP =
	'gap: what came between the part before and this one is not known (that one did not end in order); the screen after it follows';
/** Of a part that its terminal outlives; whether the control plane ended in order or not. */
export const STOPPED = 'the control plane stopped before the terminal did';

export function gapMarker(from: number, to: number, why: 'the link was down' | 'nothing was recorded then'): string {
	return `gap: output bytes ${from} to ${to} never came (${why}); the screen after it follows`;
}

/** What a marker adds. */
export function withGap({ gaps, gapBytes }: Gaps, marker: string): Gaps {
	if (marker === UNKNOWN_GAP) return { gaps: gaps + 1, gapBytes };
	const [, from, to] = GAP.exec(marker) ?? [];
	if (from === undefined || to === undefined) return { gaps, gapBytes };
	return { gaps: gaps + 1, gapBytes: gapBytes + Number(to) - Number(from) };
}
