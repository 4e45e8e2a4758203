import { basename } from 'node:path';
import ts from 'typescript-api';
import { isTest } from './sources.ts';

/** A construct that this repository doesn't use, and what it uses in its place. */
export interface Ban {
	readonly what: string;
	/** Completes the sentence "use ... instead". */
	readonly instead: string;
	matches(node: ts.Node): boolean;
	/** Files in which it is right. */
	allowed?(path: string): boolean;
}

const TIMERS = ['setTimeout', 'setInterval', 'setImmediate'];
const RANDOM = ['randomUUID', 'randomBytes', 'randomInt', 'getRandomValues'];

export const BANS: readonly Ban[] = [
	{
		what: 'Date.now',
		instead: 'clock.now() of the Clock that was passed in (kit/clock.ts)',
		matches: (node) => isMember(node, 'Date', 'now'),
		allowed: (path) => path === 'kit/clock.ts',
	},
	{
		what: 'new Date() without an argument',
		instead: 'new Date(clock.now())',
		matches: (node) =>
			ts.isNewExpression(node) && isName(node.expression, 'Date') && (node.arguments?.length ?? 0) === 0,
	},
	{
		what: 'performance.now',
		instead: 'clock.monotonic() (kit/clock.ts)',
		matches: (node) => isMember(node, 'performance', 'now'),
		allowed: (path) => path === 'kit/clock.ts',
	},
	{
		what: 'process.hrtime and process.uptime',
		instead: 'clock.monotonic() (kit/clock.ts)',
		matches: (node) => isMember(node, 'process', 'hrtime') || isMember(node, 'process', 'uptime'),
		// One clock for several processes: performance.now() has an origin of its own in each.
		allowed: (path) => path === 'test/bench/hops.ts',
	},
	{
		what: 'a global timer',
		instead:
			'clock.setTimer, clock.defer, sleep or every (kit/clock.ts); in a test, wait on a condition (test/eventually.ts)',
		matches: (node) =>
			ts.isCallExpression(node) &&
			(TIMERS.some((name) => isName(node.expression, name)) ||
				TIMERS.some((name) => isMember(node.expression, 'globalThis', name))),
		allowed: (path) => path === 'kit/clock.ts',
	},
	{
		what: 'AbortSignal.timeout',
		instead: 'a timer of the Clock that aborts a controller: a signal with a timer of its own escapes virtual time',
		matches: (node) => isMember(node, 'AbortSignal', 'timeout'),
	},
	{
		what: 'Math.random',
		instead: 'rng.float() of the Rng that was passed in (kit/ids.ts)',
		matches: (node) => isMember(node, 'Math', 'random'),
		allowed: (path) => path === 'kit/ids.ts',
	},
	{
		what: 'randomness of node:crypto',
		instead: 'rng.bytes or uuidv7 of kit/ids.ts, so that a simulation can repeat it',
		matches: (node) => ts.isIdentifier(node) && RANDOM.includes(node.text),
		allowed: (path) => path === 'kit/ids.ts',
	},
	{
		what: 'process.exit',
		instead: 'a thrown error, or process.exitCode in the main: exiting here would skip what others have to close',
		matches: (node) => isMember(node, 'process', 'exit'),
		allowed: isMain,
	},
	{
		what: 'process.env',
		instead: 'an argument; mains read the environment through kit/config.ts',
		matches: (node) => isMember(node, 'process', 'env'),
		allowed: (path) => isMain(path) || path.startsWith('cli/') || isTest(path) || path === 'vitest.config.ts',
	},
	{
		what: 'the uid and gid options of child processes',
		instead:
			"setpriv --reuid --regid --init-groups --no-new-privs: child_process drops all supplementary groups, node-pty keeps root's",
		matches: (node) =>
			ts.isCallExpression(node) &&
			/^(spawn|spawnSync|fork|exec|execFile|execSync|execFileSync)$/.test(calledName(node)) &&
			node.arguments.some(
				(argument) =>
					ts.isObjectLiteralExpression(argument) &&
					argument.properties.some((property) => ['uid', 'gid'].includes(property.name?.getText() ?? '')),
			),
		allowed: (path) => path.startsWith('test/'),
	},
	{
		what: "Kysely's transaction()",
		instead:
			'a unit of work of the store: a transaction of Kysely around a synchronous one loses acknowledged rows on rollback',
		matches: (node) =>
			ts.isCallExpression(node) &&
			ts.isPropertyAccessExpression(node.expression) &&
			node.expression.name.text === 'transaction' &&
			node.arguments.length === 0,
	},
	{
		what: 'console',
		instead: 'the Logger that was passed in (kit/log.ts); in cli/, the Io of the command',
		matches: (node) => ts.isPropertyAccessExpression(node) && isName(node.expression, 'console'),
		allowed: (path) => path.startsWith('test/'),
	},
	{
		what: 'a default export',
		instead: 'a named export: one name from definition to use',
		matches: (node) =>
			(ts.isExportAssignment(node) && !node.isExportEquals) || hasModifier(node, ts.SyntaxKind.DefaultKeyword),
		allowed: (path) => basename(path) === 'vitest.config.ts',
	},
	{
		what: 'an enum or a namespace',
		instead: 'a union of string literals; Node runs erasable TypeScript only',
		matches: (node) =>
			ts.isEnumDeclaration(node) ||
			(ts.isModuleDeclaration(node) && node.name.kind === ts.SyntaxKind.Identifier && node.name.text !== 'global'),
	},
	{
		what: 'export * (a barrel)',
		instead: 'an import from the file that defines the name',
		matches: (node) => ts.isExportDeclaration(node) && node.exportClause === undefined,
	},
	{
		what: 'any',
		instead: 'unknown and a check, or the real type',
		matches: (node) => node.kind === ts.SyntaxKind.AnyKeyword,
	},
	{
		what: 'a non-null assertion (!)',
		instead: 'present(value, why) of kit/assert.ts, or a check',
		matches: (node) => ts.isNonNullExpression(node),
	},
	{
		what: 'a test that is skipped, focused or unfinished',
		instead:
			'a test that runs; for what a laptop may lack and CI has: skipIf(lacks(...)) of test/tools.ts, runIf(isRoot)',
		matches: (node) =>
			ts.isPropertyAccessExpression(node) &&
			['skip', 'only', 'todo', 'fails', 'skipIf', 'runIf'].includes(node.name.text) &&
			/^(test|it|describe|suite|bench)\b/.test(node.expression.getText()) &&
			!(ts.isCallExpression(node.parent) && /^(lacks\(|!?isRoot$)/.test(node.parent.arguments[0]?.getText() ?? '')),
	},
];

/** Comments that silence a checker. */
export const SILENCERS = /@ts-(ignore|expect-error|nocheck)|biome-ignore|eslint-disable|v8 ignore|istanbul ignore/;

/** Programs: they own their process. */
export function isMain(path: string): boolean {
	return (
		/(^|\/)([a-z-]+-)?main\.ts$/.test(path) ||
		path.startsWith('packaging/') ||
		['test/check.ts', 'test/run.ts', 'proto/generate.ts'].includes(path)
	);
}

function isName(node: ts.Node, name: string): boolean {
	return ts.isIdentifier(node) && node.text === name;
}

function isMember(node: ts.Node, object: string, member: string): boolean {
	return ts.isPropertyAccessExpression(node) && isName(node.expression, object) && node.name.text === member;
}

function calledName(node: ts.CallExpression): string {
	return ts.isPropertyAccessExpression(node.expression) ? node.expression.name.text : node.expression.getText();
}

function hasModifier(node: ts.Node, kind: ts.SyntaxKind): boolean {
	return ts.canHaveModifiers(node) && (ts.getModifiers(node)?.some((modifier) => modifier.kind === kind) ?? false);
}
