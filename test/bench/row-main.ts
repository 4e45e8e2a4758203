import { writeFileSync } from 'node:fs';
import { keepAlive } from '../../kit/clock.ts';
import { measureRow } from './measure.ts';
import { ROWS } from './rows.ts';

/** One row in a process of its own: `row-main.ts ROW RESULT-FILE [--quick] [--patient]`. */
const [name = '', file = '', ...flags] = process.argv.slice(2);
const load = ROWS[name];
if (load === undefined) throw new Error(`there is no row ${name}`);
using _alive = keepAlive();
const result = await measureRow(await load(), {
	quick: flags.includes('--quick'),
	patient: flags.includes('--patient'),
});
writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
// What a third party keeps open must not keep the table waiting.
process.exit();
