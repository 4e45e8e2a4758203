import type { Gaps } from './gap.ts';

/**
 * Recordings of terminals, outside the database: a file that grows while the terminal runs, and is then kept under the
 * SHA-256 of its content and never changed. Files by default, an object store later; one contract suite
 * (test/contract/recording-store). Errors: DISK_FULL.
 */
export interface RecordingStore {
	/** Rejects with DISK_FULL below the free-space floor: no recording begins then. */
	check(): Promise<void>;
	/** A new, empty file. */
	create(recordingId: string): Promise<RecordingFile>;
	/**
	 * What a crash left of it: cut to its last whole line and ready to go on, or sealed already by a process that could not
	 * say so any more. Undefined when there is nothing.
	 */
	recover(recordingId: string): Promise<RecoveredFile | undefined>;
	/** Bytes of a sealed file from `offset` on, at most `bytesMax`; empty at its end; undefined when there is none. */
	read(sha256: string, offset: number, bytesMax: number): Promise<Uint8Array | undefined>;
	/** Idempotent. */
	remove(recordingId: string, sha256: string): Promise<void>;
}

/** Calls come one after another. */
export interface RecordingFile {
	/** So far. */
	readonly bytes: number;
	/** A failed append leaves the file as it was. Throws DISK_FULL. */
	append(text: string): Promise<void>;
	/** Durable from then on. */
	sync(): Promise<void>;
	/** Durable and under its digest; the file can't be written any more. */
	seal(): Promise<SealedFile>;
	/** Closes and keeps what is there for `recover`. */
	close(): Promise<void>;
}

export interface SealedFile {
	/** Hex. */
	readonly sha256: string;
	readonly bytes: number;
}

export interface RecoveredFile extends Gaps {
	readonly state: { readonly kind: 'open'; readonly file: RecordingFile } | ({ readonly kind: 'sealed' } & SealedFile);
	/** Lines after the header. */
	readonly events: number;
	/** Of the last whole event. */
	readonly lastEventMs: number;
	/** The text of that event when it is a marker, else empty. */
	readonly lastMarker: string;
}
