import type { Clock } from '../kit/clock.ts';
import type { Logger } from '../kit/log.ts';

/**
 * What every use case is told about its caller, as the explicit first argument. `actor` was authenticated by an edge;
 * nothing below an edge looks at headers, certificates or sockets.
 */
export interface RequestContext {
	readonly actor: Actor;
	/** Follows a command from the CLI to the agent and back; UUID or client-chosen, <= 64 characters. */
	readonly correlationId: string;
	/** `gpuaas.tasks.v1.TaskService/CreateTask`, or `reconciler/<name>`. */
	readonly method: string;
	/** AIP-155; empty when the caller sent none. */
	readonly requestId: string;
	/** Address of the caller, for audit; empty for the system. */
	readonly peer: string;
	/** On `clock.monotonic()`; Infinity when none. */
	readonly deadlineMs: number;
	readonly signal: AbortSignal;
	readonly log: Logger;
}

export type ActorKind = 'operator' | 'user' | 'service_account' | 'node' | 'joiner' | 'system' | 'anonymous';

export interface Actor {
	readonly kind: ActorKind;
	/** Principal id, node id, `reconciler/<name>`, token id, or empty. */
	readonly id: string;
	readonly displayName: string;
	/** Key id or certificate serial; never the secret. */
	readonly credentialId: string;
	readonly credentialExpiresAtMs: number | null;
}

/** How surely a person was there: what an identity provider said of a login (RFC 9470). */
export interface Assurance {
	readonly issuer: string;
	/** As the provider wrote it: a name to look up, never a number to compare. */
	readonly acr: string;
	readonly authTimeMs: number;
	/** False while the provider's keys could not be fetched lately: enough for reads, not for sensitive calls. */
	readonly keysFresh: boolean;
	/** Until when this login counts as stepped up, by its acr and its age; 0: it doesn't. */
	readonly strongUntilMs: number;
}

/** What a credential holds its bearer to, beyond the bearer's own roles; applied when a decision is taken. */
export interface CredentialLimits {
	/** Empty: no further limit. */
	readonly permissions: readonly string[];
	/** Name of the scope outside of which it counts for nothing; empty: no further limit. */
	readonly scope: string;
	/** Networks that it may come from; empty: any. */
	readonly cidrs: readonly string[];
}

/** The control plane acting by itself: reconcilers, workflows, start-up. */
export function systemContext(name: string, clock: Clock, log: Logger, correlationId: string): RequestContext {
	return {
		actor: { kind: 'system', id: name, displayName: name, credentialId: '', credentialExpiresAtMs: null },
		correlationId,
		method: name,
		requestId: '',
		peer: '',
		deadlineMs: Number.POSITIVE_INFINITY,
		signal: new AbortController().signal,
		log: log.child({ actor: name, startedAtMs: clock.now() }),
	};
}
