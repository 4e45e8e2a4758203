import { type Io, printable, write } from '../io.ts';
import type { ChannelEvents } from './channel-client.ts';

/**
 * What whoever waits is told of the way to their program: that it broke, and that it is back, each once. A terminal is
 * drawn anew when it is back, which says enough.
 */
export function tellOutages(
	io: Pick<Io, 'stderr'>,
	nodeName: string,
	tty: boolean,
): Required<Pick<ChannelEvents, 'outage' | 'attached' | 'link'>> {
	const [before, after] = tty ? ['\r\n', '\r\n'] : ['', '\n'];
	const say = (message: string) => void write(io.stderr, `${before}gpuaas: ${printable(message)}${after}`);
	let isBroken = false;
	let isAway = false;
	return {
		outage({ message }) {
			isBroken = true;
			say(`${message}; trying again`);
		},
		attached() {
			if (isBroken && !tty) say('connected again');
			isBroken = false;
			// Else it is said next.
			isAway = false;
		},
		link(isConnected) {
			if (isConnected === !isAway) return;
			isAway = !isConnected;
			if (isAway) say(`${nodeName} can't be reached now; waiting`);
			else if (!tty) say(`${nodeName} is reached again`);
		},
	};
}
