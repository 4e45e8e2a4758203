/** A provider as the confidential client of the console sees it: implemented by adapters/oidc. */
export interface WebProvider {
	/** Where to send the browser, and what must be kept to judge its answer. */
	begin(issuer: string, stepUp: StepUpWish | undefined): Promise<BegunLogin>;
	/** The tokens for the browser's answer; throws LOGIN_STATE_INVALID for one that isn't the answer to `kept`. */
	complete(issuer: string, answer: URL, state: string, kept: KeptLogin): Promise<WebTokens>;
	/** Undefined: the provider says that this login is over. Throws ISSUER_UNAVAILABLE when it can't be asked. */
	refresh(issuer: string, refreshToken: string): Promise<WebTokens | undefined>;
	/** Where the person logs out at the provider too; undefined when it has no such page. */
	logoutUrl(issuer: string): Promise<string | undefined>;
}

export interface StepUpWish {
	readonly acr: string;
	readonly maxAgeS: number;
}

export interface BegunLogin {
	readonly url: string;
	readonly state: string;
	readonly kept: KeptLogin;
}

/** Secret until the answer is there. */
export interface KeptLogin {
	readonly codeVerifier: string;
	readonly nonce: string;
}

export interface WebTokens {
	readonly accessToken: string;
	/** Empty when the provider gives none. */
	readonly refreshToken: string;
}

/** A back-channel logout (OpenID Connect Back-Channel Logout 1.0), verified. */
export interface LogoutNotice {
	readonly issuer: string;
	/** Empty: named by session. */
	readonly subject: string;
	readonly sessionId: string;
	/** By the provider's clock. */
	readonly issuedAtMs: number;
	readonly tokenId: string;
	readonly expiresAtMs: number;
}

export interface LogoutVerifier {
	/** Throws LOGOUT_TOKEN_INVALID. */
	verifyLogout(token: string): Promise<LogoutNotice>;
}
