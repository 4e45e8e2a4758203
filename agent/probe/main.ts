import { keepAlive, systemClock } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { FileTrace } from './call-trace.ts';
import type { Driver } from './driver.ts';
import { NO_KOFFI } from './findings.ts';
import type { Nvml } from './library.ts';
import type { OpenedDriver, ProbeAnswer, ProbeFault, ProbeRequest } from './protocol.ts';
import { DriverFault, faultOf } from './returns.ts';

/**
 * The GPU probe: a small child of the agent that alone talks to the NVIDIA driver, because a call there may never return.
 * `main.ts LIBRARY TRACE-FILE`; requests come over the IPC channel, one at a time. It ends when the channel does, on `bye`
 * (driver closed first), and when the driver was changed under it. It imports almost nothing: memory is spent by imports.
 */
const [libraryPath = '', tracePath = ''] = process.argv.slice(2);

const trace = new FileTrace(tracePath);
let driver: Driver | undefined;

/** Before the probe says that it is ready: what loading our own code takes is no fault of the driver. */
async function loadCode(): Promise<
	{ readonly library: typeof import('./library.ts'); readonly driver: typeof import('./driver.ts') } | ProbeFault
> {
	try {
		return { library: await import('./library.ts'), driver: await import('./driver.ts') };
	} catch (error) {
		// koffi has no binary for this platform.
		return { code: NO_KOFFI, message: messageOf(error) };
	}
}

function open(): OpenedDriver | ProbeFault {
	if ('code' in code) return code;
	let nvml: Nvml;
	try {
		nvml = new code.library.Nvml(libraryPath, systemClock, trace);
	} catch (error) {
		return { code: 'library', message: messageOf(error) };
	}
	const opened = code.driver.Driver.open(nvml, systemClock, (index) => {
		trace.gpu = index;
	});
	if ('code' in opened) return opened;
	driver = opened;
	return opened.describe();
}

function answer(request: Exclude<ProbeRequest, { readonly op: 'bye' }>): ProbeAnswer {
	const { id, op } = request;
	if (op === 'open') return { id, op, opened: open() };
	try {
		if (driver === undefined) throw new DriverFault(1);
		if (op === 'inventory') return { id, op, inventory: driver.inventory() };
		return { id, op, sample: driver.sample(request.slow, request.processes) };
	} catch (error) {
		if (error instanceof DriverFault) return { id, op: 'failed', fault: faultOf(error.code) };
		throw error;
	}
}

function end(code: number): void {
	driver?.close();
	driver = undefined;
	process.exitCode = code;
	// Not before the last answer is out: process.exit drops what the channel still holds.
	process.disconnect?.();
	alive[Symbol.dispose]();
}

const alive = keepAlive();
process.on('disconnect', () => {
	driver?.close();
	process.exit();
});
// The agent decides when this ends; a signal to the whole group (Ctrl-C in a terminal) must not leave the driver open.
process.on('SIGINT', () => {});
process.on('message', (request: ProbeRequest) => {
	if (request.op === 'bye') {
		end(0);
		return;
	}
	const reply = answer(request);
	process.send?.(reply, undefined, {}, () => {
		if (reply.op === 'failed' || (reply.op === 'open' && 'code' in reply.opened)) end(1);
	});
});
const code = await loadCode();
process.send?.({ id: 0, op: 'ready' } satisfies ProbeAnswer);
