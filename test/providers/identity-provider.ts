import type { Answers } from './browser.ts';

/** A real identity provider under test: one suite runs on every one of them (test/integration/login-suite.ts). */
export interface IdentityProvider extends AsyncDisposable {
	readonly name: string;
	readonly issuer: string;
	/** The public client of the command; its redirect address is `http://127.0.0.1:<any>/callback`. */
	readonly cliClient: string;
	/** The confidential client of the browser sessions. */
	readonly consoleClient: { readonly id: string; readonly secret: string };
	/** A client whose tokens are not for us. */
	readonly otherClient: string;
	/** Whether its pages stop people whose address is not verified. */
	readonly verifiesAddresses: boolean;
	/** A person with a verified address, a password and an authenticator app. */
	addUser(name: string, options?: { readonly emailVerified?: boolean }): Promise<TestUser>;
	disableUser(user: TestUser): Promise<void>;
	/** New signing key, used from now on; with `withdraw` the old one is no longer published. */
	rotateKeys(options: { readonly withdraw: boolean }): Promise<void>;
	/** Where the console's browser sessions come back to and where logouts are announced. */
	setConsole(redirectUri: string, backchannelLogoutUri: string): Promise<void>;
	/** Whether an administrator can end a person's sessions there. */
	readonly canLogOutEverywhere: boolean;
	/** Ends all of a person's sessions at the provider, which announces it. */
	logOutEverywhere(user: TestUser): Promise<void>;
}

export interface TestUser extends Answers {
	/** `sub`. */
	readonly subject: string;
	readonly email: string;
}

export const ACR_PASSWORD = 'urn:gpuaas:acr:password';
export const ACR_OTP = 'urn:gpuaas:acr:otp';
