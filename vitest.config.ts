import { defineConfig } from 'vitest/config';

/**
 * One project a kind of test (docs: CONTRIBUTING.md). `npm run check` runs `architecture`, `npm test` all the others;
 * `vitest run --project unit kit` runs a part. Time limits only end what hangs: no test may measure with them.
 */
const expect = { poll: { timeout: 50_000 } } as const;
const node = { environment: 'node', pool: 'forks', restoreMocks: true, expect } as const;

/** What needs a machine that is not there must be asked for: TEST_HARDWARE=1. */
const hardware =
	process.env['TEST_HARDWARE'] === '1' ? [project('hardware', ['test/hardware/**/*.test.ts'], 600_000, 5)] : [];

function project(name: string, include: string[], timeoutMs: number, groupOrder: number) {
	return {
		// Kinds run one after the other, so that processes and databases of one don't slow down another.
		test: { ...node, name, include, testTimeout: timeoutMs, hookTimeout: timeoutMs, sequence: { groupOrder } },
	};
}

export default defineConfig({
	test: {
		projects: [
			project('architecture', ['test/architecture/**/*.test.ts'], 300_000, 0),
			project('unit', ['{kit,channel,health,pki,proto,agent,control-plane,cli,packaging}/**/*.test.ts'], 120_000, 1),
			project('contract', ['test/contract/**/*.test.ts'], 300_000, 2),
			project('integration', ['test/integration/**/*.test.ts'], 300_000, 3),
			project('isolation', ['test/isolation/**/*.test.ts'], 300_000, 3),
			project('conformance', ['test/conformance/**/*.test.ts'], 300_000, 3),
			project('sim', ['test/sim/**/*.test.ts'], 600_000, 4),
			...hardware,
		],
		// Two cores are the smallest machine that we promise to work on.
		maxWorkers: 2,
		passWithNoTests: true,
	},
});
