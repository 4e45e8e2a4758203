import type { BlockList } from 'node:net';
import { blockList, contains, isLoopback, isNever, normalized } from './address.ts';
import { type Listener, listenersFor } from './listeners.ts';
import { isHostName, type Pattern, parsePattern } from './pattern.ts';

/**
 * Where a forward may lead. Pure. In this order: what is never reached stays so whatever the policy lists; what local
 * policy lists may be reached; on loopback a socket that the account itself opened; nothing else.
 */
export interface ForwardRules {
	/** Whether loopback sockets of the account itself may be reached. */
	readonly own: boolean;
	/** `host:port` patterns of the node's policy. */
	readonly allow: readonly string[];
	/** Addresses and ranges: routers, gateways of the control plane, and `forward.never` of the policy (provisioning, BMCs). */
	readonly never: readonly string[];
}

/** The host and the account that a forward comes from. */
export interface ForwardPlace {
	readonly uid: number;
	/** Of this host's interfaces: its services may listen there for neighbours, not for tenants. */
	readonly ownAddresses: readonly string[];
}

export interface Target {
	/** As a person wrote it; empty: loopback. */
	readonly host: string;
	readonly port: number;
}

export type Verdict =
	| { readonly kind: 'connect'; readonly address: string; readonly onlyIfOwn: boolean }
	| { readonly kind: 'refused'; readonly message: string };

export class ForwardJudge {
	readonly #allow: readonly Pattern[];
	readonly #never: BlockList;
	readonly #own: BlockList;
	readonly #uid: number;
	readonly #reachesOwn: boolean;

	/** Throws RangeError for a rule that is none: the policy was checked when it was read. */
	constructor(rules: ForwardRules, place: ForwardPlace) {
		this.#allow = rules.allow.map((text) => {
			const pattern = parsePattern(text);
			if (pattern === undefined) throw new RangeError(`${text} is no host:port pattern`);
			return pattern;
		});
		this.#never = blockList(rules.never);
		this.#own = blockList(place.ownAddresses);
		this.#uid = place.uid;
		this.#reachesOwn = rules.own;
	}

	/** A text that no resolver should see; undefined when it may be resolved or is an address. */
	static misfit({ host, port }: Target): string | undefined {
		if (!Number.isInteger(port) || port < 1 || port > 65_535) return `${port} is not a port`;
		if (host === '' || normalized(host) !== undefined || isHostName(host)) return undefined;
		return 'the host is neither an address in its usual form nor a name';
	}

	/** `addresses`: all that the host resolved to, once. One bad address refuses them all: whoever answers DNS picks the order. */
	judge({ host, port }: Target, addresses: readonly string[], listeners: readonly Listener[]): Verdict {
		const candidates = addresses.map((address) => normalized(address));
		if (candidates.length === 0) return refused(`${host} has no address`);
		for (const address of candidates) {
			if (address === undefined || isNever(address) || contains(this.#never, address))
				return refused(`${host || 'the host'} leads to an address that is never forwarded to`);
		}
		const known = candidates.filter((address) => address !== undefined);
		const listed = known.find((address) => this.#isListed(host, address, port));
		if (listed !== undefined) return { kind: 'connect', address: listed, onlyIfOwn: false };
		const own = known.find((address) => this.isOwn(address, port, listeners));
		if (own !== undefined) return { kind: 'connect', address: own, onlyIfOwn: true };
		return known.every(isLoopback)
			? refused(`nothing that this account started listens on port ${port}`)
			: refused(`${host}:${port} is not among what this node forwards to (forward.allow)`);
	}

	/** A name never leads to this host itself: whoever answers DNS could point it at any service here. */
	#isListed(host: string, address: string, port: number): boolean {
		const isHere = isLoopback(address) || contains(this.#own, address);
		return this.#allow.some((pattern) => !(pattern.byName && isHere) && pattern.matches(host, address, port));
	}

	/** Whether every socket that such a connection may reach is the account's own, and there is one. */
	isOwn(address: string, port: number, listeners: readonly Listener[]): boolean {
		if (!this.#reachesOwn || !isLoopback(address)) return false;
		const reachable = listenersFor(listeners, address, port);
		return reachable.length > 0 && reachable.every(({ uid }) => uid === this.#uid);
	}
}

function refused(message: string): Verdict {
	return { kind: 'refused', message: `${message}; nothing was connected` };
}
