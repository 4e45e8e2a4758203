/** What this installation's configuration says about logins; the same for every use case. */
export interface LoginSettings {
	/** OpenID issuers whose tokens are taken; the first is offered first. Empty: API keys only. */
	readonly issuers: readonly string[];
	/** The public client of the command line. */
	readonly cliClient: string;
	/** What counts as a stepped-up login: one of these acr values ... */
	readonly stepUpAcr: readonly string[];
	/** ... proved no longer ago than this. */
	readonly stepUpMaxAgeMs: number;
	/** The access proxy that must vouch for every request; empty: there is none. */
	readonly edge: '' | 'pomerium' | 'cloudflare';
}

export const LOGIN_DEFAULT: LoginSettings = Object.freeze({
	issuers: [],
	cliClient: 'gpuaas-cli',
	stepUpAcr: ['urn:gpuaas:acr:otp'],
	stepUpMaxAgeMs: 300_000,
	edge: '',
});
