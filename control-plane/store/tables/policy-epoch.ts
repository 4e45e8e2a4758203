import type { Plan } from '../port/unit.ts';
import type { Compiler } from './compiler.ts';

/** Raises the policy epoch: part of every change of who may do what, in the same unit. */
export function raiseEpoch(compiler: Compiler): () => Plan<void> {
	const raise = compiler.statement('update policy set epoch = epoch + 1 where id = 1');
	return function* () {
		yield raise();
	};
}
