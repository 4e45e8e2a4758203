import type { DescMessage, Message } from '@bufbuild/protobuf';
import { ENVELOPE_HEAD_BYTES, envelopeHead } from './envelope.ts';
import { runOf } from './stream-data.ts';

/** What is needed of a node stream, which this folder doesn't own. */
interface Sink {
	cork(): void;
	uncork(): void;
	write(bytes: Uint8Array): boolean;
}

const NOTHING = new Uint8Array();

/** Up to this a copy costs less than a second piece: keys and their echo. */
const COPIED_BYTES_MAX = 1024;

/** Writes a message in its envelope; a long run of bytes goes as it is, and must not be changed any more. As `write`. */
export function writeMessage(
	stream: Sink,
	desc: DescMessage,
	message: Message,
	serialize: (message: Message) => Uint8Array,
): boolean {
	const run = runOf(desc, message);
	if (run === undefined) return stream.write(envelopeOf(serialize(message)));
	if (run.data.length <= COPIED_BYTES_MAX) return stream.write(envelopeOf(run.head, run.data));
	const head = envelopeHead(0, run.data.length, run.head.length);
	head.set(run.head, ENVELOPE_HEAD_BYTES);
	stream.cork();
	stream.write(head);
	const isTaken = stream.write(run.data);
	stream.uncork();
	return isTaken;
}

function envelopeOf(first: Uint8Array, second: Uint8Array = NOTHING): Buffer {
	const whole = envelopeHead(0, 0, first.length + second.length);
	whole.set(first, ENVELOPE_HEAD_BYTES);
	whole.set(second, ENVELOPE_HEAD_BYTES + first.length);
	return whole;
}
