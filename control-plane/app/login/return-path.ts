import { GpuaasError } from '../../../kit/error.ts';

const CHARACTERS_MAX = 1024;
/** Browsers take `//host`, `/\host` and a tab or line end in between for another site. */
const OWN_PATH = /^\/(?![/\\])[\x21-\x5b\x5d-\x7e]*$/;

/** A path of ours, where a browser goes after its login: nobody may use our login page to lead people elsewhere. */
export function returnPath(sent: string | null): string {
	if (sent === null || sent === '') return '/';
	const isOwn = sent.length <= CHARACTERS_MAX && OWN_PATH.test(sent) && !/%(2f|5c)/i.test(sent.slice(0, 4));
	if (isOwn && new URL(sent, 'https://own.invalid').origin === 'https://own.invalid') return sent;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'RETURN_ADDRESS_INVALID',
		message: 'return_to is not a path of this site, so nobody was sent anywhere; give a path such as /nodes',
	});
}
