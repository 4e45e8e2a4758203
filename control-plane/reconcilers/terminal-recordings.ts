import { encodeCastEvent } from '../../kit/asciicast.ts';
import { every, type Timer } from '../../kit/clock.ts';
import type { RecordingDeps } from '../app/recordings/deps.ts';
import { STOPPED } from '../app/recordings/gap.ts';
import type { RecordingFile, RecoveredFile } from '../app/recordings/recording-store.ts';
import { type Sealing, sealRecording } from '../app/recordings/seal.ts';
import { systemContext } from '../context.ts';
import type { RecordingRow } from '../store/port/recordings.ts';

/**
 * What recordings need that nobody asks for: those that a crash of this replica left open are completed, marked
 * `truncated` and sealed; those that are older than retention lose their content, unless a legal hold keeps them. Takes no
 * input, is idempotent, does a bounded amount at a time.
 */
export interface TerminalRecordingsOptions extends RecordingDeps {
	/** Those that grow in this process are not left over. */
	readonly isLive: (recordingId: string) => boolean;
	/** After the end of a recording. Default of the configuration: 365 days. */
	readonly retentionMs: number;
	/** Default 10 s. */
	readonly periodMs?: number;
}

const BATCH = 100;

export class TerminalRecordingsReconciler implements AsyncDisposable {
	readonly #options: TerminalRecordingsOptions;
	readonly #timer: Timer;
	#running: Promise<void> | undefined;
	#closed = false;

	constructor(options: TerminalRecordingsOptions) {
		this.#options = options;
		const onError = (error: unknown) =>
			options.log.error('recordings were not looked after; it is tried again', { error });
		const activate = () => {
			this.#running ??= this.once()
				.catch(onError)
				.finally(() => {
					this.#running = undefined;
				});
		};
		this.#timer = every(options.clock, options.periodMs ?? 10_000, activate, onError);
		activate();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#closed = true;
		this.#timer.cancel();
		await this.#running;
	}

	/** One activation. */
	async once(): Promise<void> {
		const { store, clock, retentionMs } = this.#options;
		await this.#each(await this.#leftOver(), 'a recording stays open', (row) => this.#complete(row));
		const stays = 'the content of a recording that retention deletes is still there';
		const purging = await store.read((tx) => tx.recordings.listPurging(BATCH));
		await this.#each(purging, stays, (row) => this.#removeContent(row));
		const endedBeforeMs = clock.now() - retentionMs;
		const expired = await store.read((tx) => tx.recordings.listExpired(endedBeforeMs, BATCH));
		await this.#each(expired, stays, (row) => this.#purge(row));
	}

	/** One that fails now (a full disk) doesn't hold up the others. */
	async #each(
		rows: readonly RecordingRow[],
		failure: string,
		work: (row: RecordingRow) => Promise<void>,
	): Promise<void> {
		const { log } = this.#options;
		for (const row of rows) {
			if (this.#closed) return;
			await work(row).catch((error: unknown) => log.warn(failure, { recording: row.id, error }));
		}
	}

	/** However many grow here. */
	async #leftOver(): Promise<readonly RecordingRow[]> {
		const { store, replicaId, isLive } = this.#options;
		const found: RecordingRow[] = [];
		for (let afterId = ''; found.length < BATCH; ) {
			const rows = await store.read((tx) => tx.recordings.listRecording(replicaId, afterId, BATCH));
			found.push(...rows.filter(({ id }) => !isLive(id)));
			if (rows.length < BATCH) break;
			afterId = rows.at(-1)?.id ?? '';
		}
		return found;
	}

	async #complete(row: RecordingRow): Promise<void> {
		const { recordings, clock, store, log, appendAudit } = this.#options;
		const found = await recordings.recover(row.id);
		if (found === undefined) {
			const ctx = systemContext('terminal-recordings', clock, log, row.id);
			await store.unit(function* (tx) {
				const patch = { state: 'failed', endedAtMs: clock.now(), truncated: 'its file is gone' } as const;
				if ((yield* tx.recordings.update(row.id, patch, 'recording')) === undefined) return;
				yield* appendAudit(tx, ctx, eventOf(row, 'recordings.lose', 'failed'));
			});
			return;
		}
		const endedAtMs = row.startedAtMs + Math.round(found.lastEventMs);
		const { state, events, gaps, gapBytes } = found;
		const sealing = { row, endedAtMs, truncated: STOPPED, gaps, gapBytes, outputEnd: null };
		if (state.kind === 'sealed') {
			await sealRecording(this.#options, { ...sealing, file: state, events });
			return;
		}
		await sealRecording(this.#options, { ...sealing, ...(await markedAndSealed(state.file, found)) });
		log.info('a recording was completed and marked truncated', { recording: row.id, terminal: row.terminalId });
	}

	/** The row first, in one unit with the look at the hold; the content only when that is committed. */
	async #purge(row: RecordingRow): Promise<void> {
		const { store, clock, log, appendAudit } = this.#options;
		const ctx = systemContext('terminal-recordings', clock, log, row.id);
		const purged = await store.unit(function* (tx) {
			const now = yield* tx.recordings.get(row.id);
			if (now === undefined || now.heldAtMs !== null) return undefined;
			const changed = yield* tx.recordings.update(row.id, { state: 'purged' }, 'sealed');
			if (changed !== undefined) yield* appendAudit(tx, ctx, eventOf(row, 'recordings.purge', 'ok'));
			return changed;
		});
		if (purged !== undefined) await this.#removeContent(purged);
	}

	async #removeContent(row: RecordingRow): Promise<void> {
		const { store, clock, recordings } = this.#options;
		await recordings.remove(row.id, row.sha256);
		await store.unit((tx) => tx.recordings.update(row.id, { purgedAtMs: clock.now() }, 'purged'));
	}
}

/** Marked once, however often its sealing fails; closed whatever happens. */
async function markedAndSealed(
	file: RecordingFile,
	{ events, lastEventMs, lastMarker }: RecoveredFile,
): Promise<Pick<Sealing, 'file' | 'events'>> {
	const text = `truncated: ${STOPPED}`;
	const isMarked = lastMarker === text;
	try {
		if (!isMarked) await file.append(encodeCastEvent({ atMs: lastEventMs, code: 'm', text }));
		return { file: await file.seal(), events: isMarked ? events : events + 1 };
	} catch (error) {
		await file.close().catch(() => {});
		throw error;
	}
}

function eventOf(row: RecordingRow, action: string, result: 'ok' | 'failed') {
	return {
		action,
		target: `recordings/${row.id}`,
		result,
		reason: '',
		custody: row.custody,
		...(row.organization === null ? {} : { organization: row.organization }),
		detail: { terminal: row.terminalId, sha256: row.sha256 },
	};
}
