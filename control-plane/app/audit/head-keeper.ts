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
}
