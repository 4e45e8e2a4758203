import { writeSync } from 'node:fs';
import { SqliteJournal } from '../../../agent/journal/sqlite.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { attemptRow, startedFact } from './journal.contract.ts';

/**
 * Appends facts for ever and says after each commit which it was; ends with the reason of the first failure. For the
 * durability tests: somebody kills it, or its disk is small. Argument: the journal's file.
 */
const journal = new SqliteJournal({ path: process.argv[2] ?? '' });
journal.putAttempt(attemptRow());
try {
	for (;;) writeSync(1, `${journal.appendFacts([startedFact()])[0]?.seq}\n`);
} catch (error) {
	writeSync(1, `${error instanceof GpuaasError ? error.reason : String(error)}\n`);
	// What is there can still be read, and acknowledging makes room again in memory.
	writeSync(1, `${journal.listFacts(0n, 1).length === 1 && journal.getAttempt(attemptRow().taskId, 1)?.phase}\n`);
	journal.ackFacts(1n);
	writeSync(1, `${journal.listOpenAttempts().length} open, ${journal.listOutputPending().length} pending\n`);
}
