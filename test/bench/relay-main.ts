import { keepAlive } from '../../kit/clock.ts';
import { DelayRelay } from '../fakes/delay-relay.ts';
import { serveParent } from './child.ts';

/** A delay relay in a process of its own, so that the cable takes no time from either end. */
const { port, rttMs } = JSON.parse(process.argv[2] ?? '{}') as { readonly port: number; readonly rttMs: number };
using _alive = keepAlive();
await using relay = await DelayRelay.listen({ host: '127.0.0.1', port }, rttMs);
await serveParent(`127.0.0.1:${relay.port}`, async () => null);
process.exit();
