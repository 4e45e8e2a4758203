import type { Row } from './row.ts';

/** In the order in which they are run and shown. Loaded one by one: a row's imports are part of its heap. */
export const ROWS: Readonly<Record<string, () => Promise<Row>>> = {
	decide: async () => (await import('./decide.ts')).row,
	'cli-start': async () => (await import('./cli-start.ts')).row,
	store: async () => (await import('./store.ts')).row,
	'api-unary': async () => (await import('./api-unary.ts')).row,
	'task-serial': async () => (await import('./task-serial.ts')).row,
	'agent-tasks': async () => (await import('./agent-tasks.ts')).row,
	'fleet-tasks': async () => (await import('./fleet-tasks.ts')).row,
	'link-throughput': async () => (await import('./link-throughput.ts')).row,
	'idle-agents': async () => (await import('./idle-agents.ts')).row,
	'reconnect-storm': async () => (await import('./reconnect-storm.ts')).row,
};
