import { GzipEngine, type Text } from './gzip-engine.ts';

/**
 * gzip for whoever asks for it (RFC 9110 section 12.5.3), as Prometheus does: a node's page of 250 kB becomes 16.
 *
 * A fleet's pages are hundreds a second. A fresh engine and fresh buffers for each would be half a megabyte of garbage
 * outside V8's heap, for which V8 marks its whole heap again and again; so a few engines stay and take turns.
 */
const BYTES_MIN = 1024;
/** As many as libuv has threads: more would wait there. */
const ENGINES_MAX = 4;

const idle: GzipEngine[] = [];
const waiting: ((engine: GzipEngine) => void)[] = [];
let engines = 0;

export function acceptsGzip(acceptEncoding: string | undefined): boolean {
	let any: boolean | undefined;
	for (const part of (acceptEncoding ?? '').split(',')) {
		const [coding = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase());
		const weight = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1');
		if (coding === 'gzip' || coding === 'x-gzip') return weight > 0;
		if (coding === '*') any = weight > 0;
	}
	return any ?? false;
}

/** Undefined where it wouldn't pay. */
export function compressed(body: Text): Promise<Buffer> | undefined {
	return isShort(body) ? undefined : packed(body);
}

async function packed(body: Text): Promise<Buffer> {
	using packer = await freePacker();
	return await packer.pack(body);
}

/** Packs one body, and is disposed of. */
export class Packer implements Disposable {
	readonly #engine: GzipEngine;

	constructor(engine: GzipEngine) {
		this.#engine = engine;
	}

	pack(body: Text): Promise<Buffer> {
		return this.#engine.pack(body);
	}

	/** Undefined where it wouldn't pay. */
	compressed(body: Text): Promise<Buffer> | undefined {
		return isShort(body) ? undefined : this.pack(body);
	}

	[Symbol.dispose](): void {
		leave(this.#engine);
	}
}

/**
 * For whoever makes many large bodies: what is made once this resolves is packed at once. Made before, it would wait
 * here, and what V8 holds for longer than a moment costs it far more than what it can let go of at once.
 */
export async function freePacker(): Promise<Packer> {
	const free = idle.pop();
	if (free !== undefined) return new Packer(free);
	if (engines < ENGINES_MAX) return new Packer(begun());
	return new Packer(await new Promise<GzipEngine>((resolve) => waiting.push(resolve)));
}

function begun(): GzipEngine {
	engines += 1;
	return new GzipEngine();
}

function leave(engine: GzipEngine): void {
	if (!engine.isWell) engines -= 1;
	const next = waiting.shift();
	if (next !== undefined) next(engine.isWell ? engine : begun());
	else if (engine.isWell) idle.push(engine);
}

function isShort(body: Text): boolean {
	if (typeof body === 'string') return body.length < BYTES_MIN;
	let length = 0;
	for (const piece of body) length += piece.length;
	return length < BYTES_MIN;
}
