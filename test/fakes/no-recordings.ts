import type { RecordingStore } from '../../control-plane/app/recordings/recording-store.ts';

/** For worlds without terminals: nothing is there, and nothing may be begun. */
export const NO_RECORDINGS: RecordingStore = Object.freeze({
	check: () => Promise.resolve(),
	create: () => Promise.reject(new Error('this world records nothing')),
	recover: () => Promise.resolve(undefined),
	read: () => Promise.resolve(undefined),
	remove: () => Promise.resolve(),
});
