/** Frame types of a multiplexed pipe. */
export const MUX_FRAME = Object.freeze({
	/** Client to node: a new channel; ids rise. */
	open: 1,
	opened: 2,
	/** In place of `opened`: JSON, see refusal.ts. */
	refused: 3,
	data: 4,
	/** u32: so many more bytes may be sent. */
	credit: 5,
	/** Nothing more comes from this side. */
	end: 6,
	/** The connection is gone in both directions. */
	reset: 7,
});

/** What a channel needs of its mux. */
export interface MuxLink {
	send(type: number, channel: number, payload: Uint8Array): Promise<void>;
	closed(channel: number): void;
}
