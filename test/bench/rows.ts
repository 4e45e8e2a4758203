import type { Row } from './row.ts';

/** In the order in which they are run and shown. Loaded one by one: a row's imports are part of its heap. */
export const ROWS: Readonly<Record<string, () => Promise<Row>>> = {
	decide: async () => (await import('./decide.ts')).row,
	authorize: async () => (await import('./authorize.ts')).row,
	admission: async () => (await import('./admission.ts')).row,
	'list-projects': async () => (await import('./list-projects.ts')).row,
	'cli-start': async () => (await import('./cli-start.ts')).row,
	store: async () => (await import('./store.ts')).row,
	'api-unary': async () => (await import('./api-unary.ts')).row,
	'task-serial': async () => (await import('./task-serial.ts')).row,
	'agent-tasks': async () => (await import('./agent-tasks.ts')).row,
	'fleet-tasks': async () => (await import('./fleet-tasks.ts')).row,
	'link-throughput': async () => (await import('./link-throughput.ts')).row,
	'terminal-echo': async () => (await import('./terminal-echo.ts')).row,
	'terminal-bulk': async () => (await import('./terminal-bulk.ts')).row,
	'terminal-flood': async () => (await import('./terminal-flood.ts')).row,
	'terminal-far': async () => (await import('./terminal-far.ts')).row,
	'terminal-copy': async () => (await import('./terminal-copy.ts')).row,
	'terminal-fleet': async () => (await import('./terminal-fleet.ts')).row,
	'terminal-open': async () => (await import('./terminal-open.ts')).row,
	'idle-agents': async () => (await import('./idle-agents.ts')).row,
	'reconnect-storm': async () => (await import('./reconnect-storm.ts')).row,
	'telemetry-ingest': async () => (await import('./telemetry-ingest.ts')).row,
	'telemetry-pages': async () => (await import('./telemetry-pages.ts')).row,
	'telemetry-fleet': async () => (await import('./telemetry-fleet.ts')).row,
	'agent-cost': async () => (await import('./agent-cost.ts')).row,
};
