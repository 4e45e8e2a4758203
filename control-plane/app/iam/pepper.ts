import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Rng } from '../../../kit/ids.ts';

/**
 * The peppers: secrets outside the database that make a stolen table of key verifiers useless. Versioned, so that a
 * new one can be added while keys made under an old one go on working. Pure: the main reads and writes the file
 * (pki/keys/private-file: 0600, atomic) and passes its text.
 *
 * The file holds one pepper a line, `<version> <base64url of 32 bytes>`; the highest version makes new verifiers.
 */
export class PepperRing {
	/** As key objects: an HMAC with bytes makes one each time, which costs five times the HMAC. */
	readonly #peppers: ReadonlyMap<number, KeyObject>;
	readonly currentVersion: number;

	constructor(peppers: ReadonlyMap<number, KeyObject>) {
		this.#peppers = peppers;
		this.currentVersion = Math.max(...peppers.keys());
	}

	of(version: number): KeyObject | undefined {
		return this.#peppers.get(version);
	}

	get current(): KeyObject {
		return present(this.#peppers.get(this.currentVersion), 'a ring is never empty');
	}

	/** A key of its own for another purpose, equal on every replica that has this file: page tokens. */
	derive(purpose: string): Uint8Array {
		return new Uint8Array(hkdfSync('sha256', this.current, new Uint8Array(), `gpuaas ${purpose}`, 32));
	}
}

/** What the secrets of API keys are made and checked with. */
export interface KeySecrets {
	readonly ring: PepperRing;
	/** Part of every key: `dev`, `prod`. */
	readonly environment: string;
}

const LINE = /^([1-9][0-9]{0,8}) ([A-Za-z0-9_-]{43})$/;

/** Throws CONFIG_INVALID; the message never holds a pepper. */
export function parsePeppers(text: string): PepperRing {
	const peppers = new Map<number, KeyObject>();
	for (const [index, line] of text.split('\n').entries()) {
		if (line.trim() === '') continue;
		const match = LINE.exec(line.trim());
		const version = Number(match?.[1]);
		if (match === null || peppers.has(version))
			throw invalid(`line ${index + 1} is not "<version> <pepper>" or repeats`);
		peppers.set(version, createSecretKey(match[2] ?? '', 'base64url'));
	}
	if (peppers.size === 0) throw invalid('it is empty');
	return new PepperRing(peppers);
}

/** The text of a first pepper file. */
export function mintPeppers(rng: Rng): string {
	return `1 ${Buffer.from(rng.bytes(32)).toString('base64url')}\n`;
}

function invalid(why: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CONFIG_INVALID',
		message: `the pepper file can't be used: ${why}. Restore it from backup: without it every API key is void`,
	});
}
