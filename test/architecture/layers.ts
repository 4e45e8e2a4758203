import { readText } from './sources.ts';

/**
 * The arrows of layers.json. A name stands for the files directly in a folder (`kit`), for one file without its suffix
 * (`control-plane/context`), for the folders one level below (`pki/*`), or for everything below and itself (`test/**`).
 */
export interface Layers {
	/** Layer -> what it may import beside itself. */
	readonly layers: Readonly<Record<string, readonly string[]>>;
	/** Third-party package -> the layers that own it. */
	readonly packages: Readonly<Record<string, readonly string[]>>;
	/** Built-in modules that only some layers may use. */
	readonly builtins: Readonly<Record<string, readonly string[]>>;
	/** Packages for test files of any layer. */
	readonly testOnly: readonly string[];
}

export function readLayers(): Layers {
	return JSON.parse(readText('test/architecture/layers.json')) as Layers;
}

/** Whether `name` stands for the file at `path`. */
export function covers(name: string, path: string): boolean {
	const file = path.replace(/\.ts$/, '');
	const folder = file.includes('/') ? file.slice(0, file.lastIndexOf('/')) : '.';
	if (name === '**') return true;
	if (name.endsWith('/**')) return `${folder}/`.startsWith(name.slice(0, -2));
	if (name.endsWith('/*')) return folder.startsWith(name.slice(0, -1)) && !folder.slice(name.length - 1).includes('/');
	return file === name || folder === name;
}

/** The most specific layer that the file at `path` is in. */
export function layerOf(layers: Layers, path: string): string | undefined {
	const file = path.replace(/\.ts$/, '');
	const names = Object.keys(layers.layers).filter((name) => covers(name, path));
	const rank = (name: string) => (name === file ? 3 : name.includes('*') ? (name.endsWith('**') ? 0 : 1) : 2);
	return names.sort((a, b) => rank(b) - rank(a) || b.length - a.length)[0];
}

/** Whether files of `layer` may import the file at `target`. */
export function mayImport(layers: Layers, layer: string, target: string): boolean {
	if (layerOf(layers, target) === layer) return true;
	return (layers.layers[layer] ?? []).some((name) => covers(name, target));
}
