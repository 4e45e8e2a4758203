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
	/^gap: output bytes (\d{1,16}) to (\d{1,16}) never came \(the link was down\); the screen after it follows$/;

export function gapMarker(from: number, to: number): string {
	return `gap: output bytes ${from} to ${to} never came (the link was down); the screen after it follows`;
}

/** What a marker adds. */
export function withGap({ gaps, gapBytes }: Gaps, marker: string): Gaps {
	const [, from, to] = GAP.exec(marker) ?? [];
	if (from === undefined || to === undefined) return { gaps, gapBytes };
	return { gaps: gaps + 1, gapBytes: gapBytes + Number(to) - Number(from) };
}
