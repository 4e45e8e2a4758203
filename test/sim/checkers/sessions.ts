import type { ConnectRequest, ConnectResponse } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { History } from '../history.ts';
import type { NetworkObserver } from '../world/network.ts';

/**
 * One live session a node, seen from the wire. The server: once it has welcomed a newer epoch, no lease and no command
 * goes out under an older one. The agent: once it was welcomed under a newer epoch, it acknowledges no command and
 * sends no heartbeat under an older one, so what an old session orders has no effect.
 */
export class SessionChecker implements NetworkObserver {
	readonly #history: History;
	/** Connection -> epoch. */
	readonly #welcomed = new Map<string, bigint>();
	/** Node -> newest epoch that the server gave out, and that the agent was told. */
	readonly #given = new Map<string, bigint>();
	readonly #taken = new Map<string, bigint>();

	constructor(history: History) {
		this.#history = history;
	}

	onDownSent(node: string, connection: number, { message }: ConnectResponse): void {
		const key = `${node}#${connection}`;
		const newest = this.#given.get(node) ?? 0n;
		if (message.case === 'welcome') {
			const { epoch } = message.value;
			if (epoch <= newest) this.#violate(`${node} was welcomed under epoch ${epoch} after ${newest}`);
			this.#welcomed.set(key, epoch);
			this.#given.set(node, epoch);
			return;
		}
		const epoch = this.#welcomed.get(key);
		const isPower = message.case === 'leaseAck' || message.case === 'command';
		if (isPower && (epoch === undefined || epoch < newest))
			this.#violate(
				`${message.case} went to ${node} under epoch ${epoch ?? 'none'}, and ${newest} was welcomed before`,
			);
	}

	onDownArrived(node: string, _connection: number, { message }: ConnectResponse): void {
		if (message.case === 'welcome' && message.value.epoch > (this.#taken.get(node) ?? 0n))
			this.#taken.set(node, message.value.epoch);
	}

	onUpSent(node: string, connection: number, { message }: ConnectRequest): void {
		if (message.case !== 'commandAck' && message.case !== 'heartbeat') return;
		const epoch = this.#welcomed.get(`${node}#${connection}`);
		const newest = this.#taken.get(node) ?? 0n;
		if (epoch === undefined || epoch < newest)
			this.#violate(
				`${node} sent ${message.case} under epoch ${epoch ?? 'none'} after it was welcomed under ${newest}`,
			);
	}

	#violate(message: string): void {
		this.#history.violate('one-session-per-node', message);
	}
}
