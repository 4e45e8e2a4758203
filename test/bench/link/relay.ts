import { DelayRelay } from '../../fakes/delay-relay.ts';

/** The relay's process of throughput.ts: a message sets its round-trip time. */
const relay = await DelayRelay.listen({ host: '127.0.0.1', port: Number(process.argv[2]) });
process.on('message', (rttMs: number) => {
	relay.rttMs = rttMs;
	process.send?.('set');
});
process.send?.(relay.port);
