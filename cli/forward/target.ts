/** `8888`, `8888:9999`, `8888:host:9999`, `8888:[fd00::1]:9999`. */
export interface ForwardSpec {
	/** Here; 0 takes a free one. */
	readonly localPort: number;
	/** Empty: loopback of the node. */
	readonly host: string;
	readonly port: number;
}

const SPEC = /^(\d{1,5})(?::(?:(\[[0-9a-fA-F:.]+\]|[^:[\]]+):)?(\d{1,5}))?$/;

/** Undefined for what is none. */
export function parseForward(text: string): ForwardSpec | undefined {
	const [, local = '', host = '', remote = local] = SPEC.exec(text) ?? [];
	const [localPort, port] = [Number(local), Number(remote)];
	if (local === '' || localPort > 65_535 || port < 1 || port > 65_535) return undefined;
	return { localPort, host: host.replace(/^\[|\]$/g, ''), port };
}
