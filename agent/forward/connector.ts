import { connect, isIP, type Socket } from 'node:net';
import type { Clock } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { type Listener, readListeners } from './listeners.ts';
import { type Resolve, resolveAll } from './resolve.ts';
import { ForwardJudge, type Target } from './rules.ts';

/**
 * Opens the one connection that a forward asks for: resolves once, judges the addresses, connects to the very address that
 * was judged. A loopback socket must be the account's own before the connection and after it: a service that took the port
 * in between gets no byte.
 */
export interface ConnectorDeps {
	readonly clock: Clock;
	/** Asked for each connection: what is kept closed by name moves, and rejects while it can't be told where it is. */
	readonly judge: () => Promise<ForwardJudge>;
	readonly resolve?: Resolve;
	readonly listeners?: () => readonly Listener[];
}

const CONNECT_TIMEOUT_MS = 10_000;

export class Connector {
	readonly #deps: ConnectorDeps;

	constructor(deps: ConnectorDeps) {
		this.#deps = deps;
	}

	/** Throws FORWARD_ADDRESS_DENIED, FORWARD_UNREACHABLE; the latter also once `gone` is aborted, and is connected no more then. */
	async connect(target: Target, gone: AbortSignal): Promise<Socket> {
		const { resolve = resolveAll, listeners = readListeners } = this.#deps;
		const misfit = ForwardJudge.misfit(target);
		if (misfit !== undefined) throw denied(misfit);
		const judge = await this.#deps.judge();
		const addresses = target.host === '' ? ['127.0.0.1', '::1'] : await this.#resolve(target.host, resolve);
		const verdict = judge.judge(target, addresses, listeners());
		if (verdict.kind === 'refused') throw denied(verdict.message);
		const socket = await this.#dial(verdict.address, target.port, gone);
		if (verdict.onlyIfOwn && !judge.isOwn(verdict.address, target.port, listeners())) {
			socket.destroy();
			throw denied('another account took the port meanwhile; the connection was ended before a byte was sent');
		}
		return socket;
	}

	async #resolve(host: string, resolve: Resolve): Promise<readonly string[]> {
		if (isIP(host) !== 0) return [host];
		try {
			return await resolve(host);
		} catch (error) {
			throw unreachable(`${host} can't be resolved on the node (${messageOf(error)})`);
		}
	}

	#dial(host: string, port: number, gone: AbortSignal): Promise<Socket> {
		return new Promise((resolve, reject) => {
			if (gone.aborted) return reject(abandoned());
			const socket = connect({ host, port, allowHalfOpen: true });
			const fail = (error: Error) => {
				timer.cancel();
				gone.removeEventListener('abort', onGone);
				socket.destroy();
				reject(error);
			};
			const onGone = () => fail(abandoned());
			gone.addEventListener('abort', onGone, { once: true });
			const timer = this.#deps.clock.setTimer(
				() => fail(unreachable(`${host}:${port} did not answer within ${CONNECT_TIMEOUT_MS / 1000} s`)),
				CONNECT_TIMEOUT_MS,
			);
			const onError = (error: Error) =>
				fail(unreachable(`${host}:${port} can't be reached from the node (${error.message})`));
			socket.once('error', onError);
			socket.once('connect', () => {
				timer.cancel();
				gone.removeEventListener('abort', onGone);
				socket.off('error', onError);
				resolve(socket);
			});
		});
	}
}

function denied(message: string): GpuaasError {
	return new GpuaasError({ code: 'PERMISSION_DENIED', reason: 'FORWARD_ADDRESS_DENIED', message });
}

function abandoned(): GpuaasError {
	return unreachable('the connection was given up while it was made');
}

function unreachable(message: string): GpuaasError {
	return new GpuaasError({ code: 'UNAVAILABLE', reason: 'FORWARD_UNREACHABLE', message });
}
