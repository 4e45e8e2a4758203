import { expect, test } from 'vitest';
import { GpuaasError } from './error.ts';
import { Scope } from './scope.ts';

test('closing aborts, waits for tasks, then closes resources in reverse', async () => {
	const order: string[] = [];
	const scope = new Scope((name) => order.push(`failed ${name}`));
	scope.defer(() => void order.push('first'));
	scope.use({ [Symbol.dispose]: () => void order.push('second') });
	scope.use({ [Symbol.asyncDispose]: async () => void order.push('third') });
	scope.run('task', async (signal) => {
		await new Promise((resolve) => signal.addEventListener('abort', resolve));
		order.push('task');
	});
	expect(scope.signal.aborted).toBe(false);
	await scope[Symbol.asyncDispose]();
	expect(order).toEqual(['task', 'third', 'second', 'first']);
	expect(scope.signal.aborted).toBe(true);
});

test('a task that fails is reported while the scope is open, and not when it fails because of the end', async () => {
	const failures: string[] = [];
	let reported = () => {};
	const heard = new Promise<void>((resolve) => {
		reported = resolve;
	});
	const scope = new Scope((name, error) => {
		failures.push(`${name}: ${(error as Error).message}`);
		reported();
	});
	scope.run('early', () => Promise.reject(new Error('broken')));
	scope.run('late', async (signal) => {
		await new Promise((resolve) => signal.addEventListener('abort', resolve));
		throw new Error('aborted');
	});
	await heard;
	await scope[Symbol.asyncDispose]();
	expect(failures).toEqual(['early: broken']);
});

test('nothing starts in a closed scope', async () => {
	const scope = new Scope(() => {});
	await scope[Symbol.asyncDispose]();
	expect(() => scope.run('late', async () => {})).toThrow(expect.objectContaining({ reason: 'SHUTTING_DOWN' }));
	expect(() => scope.run('late', async () => {})).toThrow(GpuaasError);
});
