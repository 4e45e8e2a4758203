/** The newest signed head of the audit log, and waiting for one that covers a record. */
export interface HeadKeeper {
	/** C2SP signed note; empty before the first. */
	latest(): string;
	/**
	 * Resolves when a signed head covers the leaf with this id: privileged calls wait, they never wait for witnesses.
	 * Rejects AUDIT_UNAVAILABLE while signing is stopped.
	 */
	covered(leafId: string): Promise<void>;
	/** Throws AUDIT_UNAVAILABLE while signing is stopped: asked before a privileged transaction. */
	assertSigning(): void;
	/**
	 * A head that somebody outside kept; unverified, may be empty or rubbish. One that we signed and that our chain
	 * doesn't continue shows a restored or forked log: signing stops, as it does for such a head in the anchor.
	 */
	witness(note: string): void;
}
