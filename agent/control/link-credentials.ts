import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { type CallCredentials, ChannelCredentials, type VerifyOptions } from '@grpc/grpc-js';

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/**
 * TLS of one dial, which ends with its channel. In grpc-js a subchannel that failed dials once more about a second
 * after its channel was closed, and keeps that connection, without a stream, until the gateway is tired of it: after an
 * outage every agent would come back with one idle connection more for each of its last attempts, and pay a handshake
 * for it. test/integration/link-tls.test.ts holds this against the pinned grpc-js.
 */
export class LinkCredentials extends ChannelCredentials {
	readonly #inner: ChannelCredentials;

	constructor(context: SecureContext, verify: VerifyOptions) {
		super();
		this.#inner = ChannelCredentials.createFromSecureContext(context, verify);
	}

	override _isSecure(): boolean {
		return true;
	}

	override _equals(other: ChannelCredentials): boolean {
		return this === other;
	}

	override _createSecureConnector(...args: Parameters<ChannelCredentials['_createSecureConnector']>): SecureConnector {
		const inner = this.#inner._createSecureConnector(...args);
		const open = new Set<Socket>();
		let isOver = false;
		return {
			// Asked before anything is dialled.
			waitForReady: () => (isOver ? Promise.reject(new Error('the channel was closed')) : inner.waitForReady()),
			connect: async (socket) => {
				if (isOver) throw new Error('the channel was closed');
				open.add(socket);
				try {
					return await inner.connect(socket);
				} finally {
					open.delete(socket);
				}
			},
			getCallCredentials: (): CallCredentials => inner.getCallCredentials(),
			destroy: () => {
				isOver = true;
				for (const socket of open) socket.destroy();
				inner.destroy();
			},
		};
	}
}
