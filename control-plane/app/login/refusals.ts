import { GpuaasError } from '../../../kit/error.ts';

/** What is said to people whose token is good and who may not come in. */
const MESSAGES = {
	USER_NOT_INVITED:
		'you are logged in at the provider, and nobody has let you in here yet; ask for an invitation and log in with it: gpuaas login ADDRESS --ca FILE --invitation FILE',
	USER_DISABLED: 'your account here is disabled; ask an administrator of your organization, or an operator',
	LOGGED_OUT: 'this login was ended; log in again with: gpuaas login',
} as const;

export function loginRefused(reason: keyof typeof MESSAGES): GpuaasError {
	return new GpuaasError({ code: 'UNAUTHENTICATED', reason, message: MESSAGES[reason] });
}
