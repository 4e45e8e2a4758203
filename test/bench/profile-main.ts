import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Sums CPU profiles up: `profile-main.ts FOLDER|FILE [COUNT]` prints, a profile at a time, the functions in which it
 * spent its time itself, and beside them those that it spent it under.
 */
interface Profile {
	readonly nodes: readonly ProfileNode[];
	readonly samples: readonly number[];
	readonly timeDeltas: readonly number[];
}

interface ProfileNode {
	readonly id: number;
	readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
	readonly children?: readonly number[];
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const [path = '.', count = '25'] = process.argv.slice(2);
const files = path.endsWith('.cpuprofile')
	? [path]
	: readdirSync(path)
			.filter((name) => name.endsWith('.cpuprofile'))
			.map((name) => join(path, name));
for (const file of files) print(file, JSON.parse(readFileSync(file, 'utf8')) as Profile);

function print(file: string, { nodes, samples, timeDeltas }: Profile): void {
	const selfUs = new Map<number, number>();
	samples.forEach((id, index) => {
		selfUs.set(id, (selfUs.get(id) ?? 0) + (timeDeltas[index] ?? 0));
	});
	const byId = new Map(nodes.map((node) => [node.id, node]));
	const self = new Map<string, number>();
	const under = new Map<string, number>();
	const visit = (node: ProfileNode, above: ReadonlySet<string>): number => {
		const name = nameOf(node);
		let totalUs = selfUs.get(node.id) ?? 0;
		self.set(name, (self.get(name) ?? 0) + totalUs);
		const inner = new Set(above).add(name);
		for (const child of node.children ?? []) {
			const found = byId.get(child);
			if (found !== undefined) totalUs += visit(found, inner);
		}
		if (!above.has(name)) under.set(name, (under.get(name) ?? 0) + totalUs);
		return totalUs;
	};
	const [first] = nodes;
	const totalUs = first === undefined ? 0 : visit(first, new Set());
	const idleUs = self.get('(idle)') ?? 0;
	process.stdout.write(`\n${file}: ${ms(totalUs)} ms, busy ${ms(totalUs - idleUs)} ms\n`);
	const busy = (entries: Map<string, number>) =>
		[...entries].filter(([name]) => name !== '(idle)' && name !== '(root)').sort((a, b) => b[1] - a[1]);
	const left = busy(self).slice(0, Number(count));
	const right = busy(under).slice(0, Number(count));
	left.forEach(([name, us], index) => {
		const [other = '', otherUs = 0] = right[index] ?? [];
		const share = (part: number) => `${((part / (totalUs - idleUs)) * 100).toFixed(1)} %`.padStart(7);
		process.stdout.write(`${share(us)} ${name.padEnd(70).slice(0, 70)} | ${share(otherUs)} ${other}\n`);
	});
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
	const name = functionName === '' ? '(anonymous)' : functionName;
	if (url === '') return name;
	const short = url
		.replace('file://', '')
		.replace(root, '')
		.replace(/.*node_modules\//, '');
	return `${name} ${short}:${lineNumber + 1}`;
}

function ms(us: number): number {
	return Math.round(us / 1000);
}
