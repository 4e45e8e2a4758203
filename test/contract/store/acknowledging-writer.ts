import { writeSync } from 'node:fs';
import { openStore } from '../../../control-plane/store/open.ts';
import { present } from '../../../kit/assert.ts';
import { systemClock } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { silentLogger } from '../../../kit/log.ts';

/**
 * A program for durability.test.ts: `acknowledging-writer.ts <store url> <round>`. Eight callers write rows without end
 * and print the id of each when its unit has resolved, so that whoever kills it knows what must be there.
 */
const [url, round] = process.argv.slice(2);
const deps = { clock: systemClock, rng: systemRng, log: silentLogger };
const store = await openStore(present(url, 'the URL of a store'), deps);
await Promise.all(
	Array.from({ length: 8 }, async (_, caller) => {
		for (let index = 0; ; index += 1) {
			const id = `${round}-${caller}-${index}`;
			await store.unit((tx) => tx.outbox.append({ id, topic: 't', key: 'k', atMs: 1 }));
			// At once and in order: a buffered line would be lost with the process and prove nothing.
			writeSync(1, `${id}\n`);
		}
	}),
);
