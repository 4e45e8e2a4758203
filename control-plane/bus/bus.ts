/**
 * Wake-ups between parts and replicas: at most once, no order, no truth. Losing a message costs latency and never
 * correctness, because whoever listens also looks at the store by itself. In-process by default, NATS later.
 */
export interface Hint {
	/** As an outbox row: `tasks.queued`, `tasks.changed`, `tasks.output`, `nodes.changed` ... */
	readonly topic: string;
	/** The object's id: read it from the store. */
	readonly key: string;
}

export interface Bus {
	publish(hint: Hint): void;
	/** `listener` must be quick and must not throw. Returns the unsubscribe function. */
	subscribe(topic: string, listener: (hint: Hint) => void): () => void;
}
