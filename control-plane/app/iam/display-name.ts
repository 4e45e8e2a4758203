import unhomoglyph from 'unhomoglyph';
import { GpuaasError } from '../../../kit/error.ts';

/**
 * Names that people read and trust. A name is in one script (or the mixtures that Japanese, Korean and Chinese write),
 * has no character that can't be seen, and has a skeleton (UTS #39): two siblings with one skeleton look alike, and the
 * second is refused.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u115F\u1160\u3164\uFFA0]/u;
const SCRIPTS = [
	'Latin',
	'Cyrillic',
	'Greek',
	'Armenian',
	'Georgian',
	'Hebrew',
	'Arabic',
	'Devanagari',
	'Thai',
] as const;
const ONE_SCRIPT: readonly RegExp[] = [
	...SCRIPTS.map((script) => new RegExp(`^[\\p{Script=${script}}\\p{Script=Common}\\p{Script=Inherited}]+$`, 'u')),
	// "Highly restrictive" of UTS #39: these are written with Latin letters among them.
	/^[\p{Script=Latin}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Common}\p{Script=Inherited}]+$/u,
	/^[\p{Script=Latin}\p{Script=Han}\p{Script=Bopomofo}\p{Script=Common}\p{Script=Inherited}]+$/u,
	/^[\p{Script=Latin}\p{Script=Han}\p{Script=Hangul}\p{Script=Common}\p{Script=Inherited}]+$/u,
];

export interface CheckedName {
	/** NFC, without space at its ends. */
	readonly displayName: string;
	readonly skeleton: string;
}

/** Throws NAME_CONFUSABLE. */
export function checkedDisplayName(given: string): CheckedName {
	const displayName = given.normalize('NFC').trim();
	if (displayName === '') throw confusable('it has no character that can be seen');
	if (INVISIBLE.test(displayName))
		throw confusable('it holds a character that can’t be seen or that changes direction');
	if (!ONE_SCRIPT.some((script) => script.test(displayName)))
		throw confusable('it mixes letters of scripts that look alike, such as Latin and Cyrillic');
	return { displayName, skeleton: skeletonOf(displayName) };
}

export function skeletonOf(name: string): string {
	const folded = name.normalize('NFKC').toLowerCase().normalize('NFD');
	return unhomoglyph(folded).toLowerCase().replaceAll(/\s+/gu, ' ');
}

function confusable(why: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'NAME_CONFUSABLE',
		message: `this display name could be taken for another one: ${why}. Nothing was done; choose a plainer one`,
	});
}
