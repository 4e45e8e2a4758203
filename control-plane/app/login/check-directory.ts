import { messageOf } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { systemContext } from '../../context.ts';
import type { UserIdentityRow } from '../../store/port/identities.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import type { Directory } from './directory.ts';
import { lockPerson } from './lock-person.ts';

export interface DirectoryDeps extends Pick<AppDeps, 'store' | 'clock' | 'rng' | 'log'> {
	readonly appendAudit: AppendAudit;
	readonly directory: Directory;
}

/** Of one look at one provider. */
const PEOPLE_A_LOOK = 200;
/** Asked at the same time. */
const ASKED_AT_ONCE = 4;
/** Up to as many may leave at once whatever their share; all who are asked about never do. */
const LEAVERS_ALWAYS_BELIEVED = 5;

/**
 * Of those who are only not shown any more, past that number, one in as many at most: a token that lost sight of a group, or
 * a directory that was restored in part, looks just so.
 */
const GONE_BELIEVED_ONE_IN = 10;

type Left = 'disabled' | 'gone';

interface Answered {
	readonly person: UserIdentityRow;
	/** Undefined: still there. */
	readonly why: Left | undefined;
}

/**
 * Asks the providers' directories about people, some at a time and all of them again and again, and locks whoever was
 * disabled or removed there: also those who have nothing but an API key here, of whom no login and no logout ever tells.
 * Nobody is locked on one answer: it takes a second look that says the same. A directory that has lost all or most of those
 * who are asked about is not believed, for a realm that was restored without its users, or a wrong address, would else lock
 * everybody out; nor is ever the last operator locked. Who can't be asked about keeps nobody else from being looked at.
 */
export class DirectoryCheck {
	readonly #deps: DirectoryDeps;
	/** Where the next look at each issuer begins. */
	readonly #after = new Map<string, string>();
	/** `issuer subject` of whoever had left at the last look at them. */
	readonly #suspects = new Set<string>();

	constructor(deps: DirectoryDeps) {
		this.#deps = deps;
	}

	/** How many were locked; soon, and then of those asked about so far, once `signal` aborts. Rejects only when the store does. */
	async look(signal?: AbortSignal): Promise<number> {
		let locked = 0;
		for (const issuer of this.#deps.directory.issuers)
			if (signal?.aborted !== true) locked += await this.#lookAt(issuer, signal);
		return locked;
	}

	async #lookAt(issuer: string, signal: AbortSignal | undefined): Promise<number> {
		const people = await this.#nextPeople(issuer);
		const answers = await this.#ask(issuer, people, signal);
		const leavers = answers.flatMap(({ person, why }) => (why === undefined ? [] : [{ person, why }]));
		const counts = { issuer, asked: answers.length, leavers: leavers.length };
		const isMost = leavers.length > LEAVERS_ALWAYS_BELIEVED && leavers.length * 2 > answers.length;
		if (leavers.length > 0 && (isMost || leavers.length === answers.length)) {
			this.#deps.log.error('a directory has lost most of the people who were asked about; nobody is locked', counts);
			return 0;
		}
		const gone = leavers.filter(({ why }) => why === 'gone').length;
		const isPartial = gone > LEAVERS_ALWAYS_BELIEVED && gone * GONE_BELIEVED_ONE_IN > answers.length;
		if (isPartial)
			this.#deps.log.error('a directory shows many people no longer; of them nobody is locked', { ...counts, gone });
		for (const { person, why } of answers) if (why === undefined) this.#suspects.delete(nameOf(person));
		let locked = 0;
		for (const { person, why } of leavers) {
			if (why === 'gone' && isPartial) continue;
			if (this.#suspects.has(nameOf(person))) locked += (await this.#lock(person, why)) ? 1 : 0;
			else this.#suspects.add(nameOf(person));
		}
		return locked;
	}

	/** As many as a look takes, if there are so many: over the end to the beginning, so that no look is at a few only. */
	async #nextPeople(issuer: string): Promise<readonly UserIdentityRow[]> {
		const after = this.#after.get(issuer) ?? '';
		const people = await this.#deps.store.read(function* (tx) {
			const rest = yield* tx.identities.listActiveIdentities(issuer, after, PEOPLE_A_LOOK);
			if (rest.length >= PEOPLE_A_LOOK || after === '') return rest;
			const first = yield* tx.identities.listActiveIdentities(issuer, '', PEOPLE_A_LOOK - rest.length);
			return [...rest, ...first.filter(({ subject }) => subject <= after)];
		});
		this.#after.set(issuer, people.length < PEOPLE_A_LOOK ? '' : (people.at(-1)?.subject ?? ''));
		return people;
	}

	/** Of whoever could be asked about. */
	async #ask(
		issuer: string,
		people: readonly UserIdentityRow[],
		signal: AbortSignal | undefined,
	): Promise<readonly Answered[]> {
		const answers: Answered[] = [];
		let failed = 0;
		let why: unknown;
		for (let from = 0; from < people.length && signal?.aborted !== true; from += ASKED_AT_ONCE) {
			const some = people.slice(from, from + ASKED_AT_ONCE);
			const settled = await Promise.allSettled(
				some.map(async (person): Promise<Answered> => {
					const status = await this.#deps.directory.statusOf(issuer, person.subject, signal);
					return { person, why: status === 'active' ? undefined : status };
				}),
			);
			for (const one of settled) {
				if (one.status === 'fulfilled') answers.push(one.value);
				else [failed, why] = [failed + 1, one.reason];
			}
			if (settled.every(({ status }) => status === 'rejected')) {
				// It would answer about nobody else either; the next look begins behind these, whatever is with them.
				this.#after.set(issuer, some.at(-1)?.subject ?? '');
				break;
			}
		}
		if (failed > 0 && signal?.aborted !== true) {
			const counts = { issuer, failed, asked: people.length, why: messageOf(why) };
			this.#deps.log.warn('a directory could not be asked about some people; the next round asks again', counts);
		}
		return answers;
	}

	async #lock(person: UserIdentityRow, why: Left): Promise<boolean> {
		const { store, clock, rng, log, appendAudit } = this.#deps;
		const nowMs = clock.now();
		const id = uuidv7(nowMs, rng);
		const ctx = systemContext('reconciler/directory', clock, log, id);
		const outcome = await store.unit((tx) => lockPerson(tx, person, { ctx, appendAudit, id, nowMs, why }));
		const about = { principal: person.principalId, why };
		if (outcome === 'locked') log.warn('a person left at the provider and is locked here', about);
		if (outcome === 'last operator')
			log.error('the last operator left at the provider and is not locked: give that role to somebody else', about);
		if (outcome !== 'last operator') this.#suspects.delete(nameOf(person));
		return outcome === 'locked';
	}
}

function nameOf({ issuer, subject }: UserIdentityRow): string {
	return `${issuer} ${subject}`;
}
