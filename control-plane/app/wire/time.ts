import { create } from '@bufbuild/protobuf';
import { type Duration, DurationSchema } from '@bufbuild/protobuf/wkt';

/** Rows keep milliseconds, messages keep Duration. */
export function durationFromMs(ms: number): Duration {
	const seconds = Math.floor(ms / 1000);
	return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1_000_000) });
}

/** Rounded up to a whole ms, so that a positive duration never becomes none. */
export function msFromDuration(duration: Duration | undefined): number | undefined {
	if (duration === undefined) return undefined;
	return Number(duration.seconds) * 1000 + Math.ceil(duration.nanos / 1_000_000);
}
