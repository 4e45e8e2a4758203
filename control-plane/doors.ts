import type { Registry } from '../kit/exposition.ts';
import { uuidv7 } from '../kit/ids.ts';
import type { Scope } from '../kit/scope.ts';
import { KeycloakDirectory, type KeycloakDirectorySettings } from './adapters/oidc/keycloak-directory.ts';
import { openEdgeVerifier, openOidc } from './adapters/oidc/open.ts';
import { ScimDirectory, type ScimDirectorySettings } from './adapters/oidc/scim-directory.ts';
import { WebClient, type WebClientSettings } from './adapters/oidc/web-client.ts';
import { AuthRoutes, type AuthRoutesOptions } from './api/auth-routes.ts';
import { BreakGlassAuthenticator } from './app/break-glass/authenticate.ts';
import { ApiKeyAuthenticator } from './app/iam/authenticate.ts';
import type { PepperRing } from './app/iam/pepper.ts';
import { ANONYMOUS } from './app/iam/principal.ts';
import type { KeyUses } from './app/keys/uses.ts';
import { CredentialAuthenticator } from './app/login/authenticate.ts';
import { BrowserLogin } from './app/login/browser-login.ts';
import type { Directory } from './app/login/directory.ts';
import { Sealer } from './app/login/seal.ts';
import { TokenLogin } from './app/login/token-login.ts';
import type { UseCaseDeps } from './app/use-case.ts';
import type { ControlPlaneConfig } from './config.ts';
import { systemContext } from './context.ts';
import { DirectoryReconciler } from './reconcilers/directory.ts';
import { LoginReconciler } from './reconcilers/logins.ts';

export interface Doors {
	readonly authenticator: CredentialAuthenticator;
	/** Present where browsers may log in. */
	readonly auth?: AuthRoutes;
	readonly browser?: BrowserLogin;
}

export interface DoorsOptions {
	readonly deps: UseCaseDeps;
	readonly pepper: PepperRing;
	readonly config: Pick<ControlPlaneConfig, 'core' | 'oidc' | 'edge'>;
	readonly registry: Registry;
	readonly uses: KeyUses;
	/** The client of browser sessions; undefined: none. */
	readonly web?: WebClientSettings | undefined;
	/** Where people are kept; undefined: nobody is asked. */
	readonly directory?: KeycloakDirectorySettings | undefined;
	/** The same, of a provider that is no Keycloak. */
	readonly scim?: ScimDirectorySettings | undefined;
	/** Of the keys of providers; tests make it shorter. */
	readonly cooldownMs?: number;
}

/** By what people and programs come in: API keys, break-glass, and logins where a provider is configured. */
export function openDoors(options: DoorsOptions, scope: Pick<Scope, 'use'>): Doors {
	const { deps, pepper, config, registry, uses } = options;
	const { clock, log, rng } = deps;
	const edge = openEdgeVerifier(config.edge, { clock, log, registry });
	const doors = {
		apiKeys: new ApiKeyAuthenticator({ ...deps, pepper, environment: config.core.environment, uses }),
		breakGlass: new BreakGlassAuthenticator(deps),
		...(edge === undefined ? {} : { edge }),
	};
	const { issuers } = config.oidc;
	if (issuers.length === 0) return { authenticator: new CredentialAuthenticator(doors) };
	const { cooldownMs } = options;
	const oidc = openOidc(config.oidc, { clock, log, registry, ...(cooldownMs === undefined ? {} : { cooldownMs }) });
	const tokens = new TokenLogin({ ...deps, verifier: oidc.verifier });
	const { web } = options;
	for (const directory of directoriesOf(options)) scope.use(new DirectoryReconciler({ ...deps, directory }));
	if (web === undefined) return { authenticator: new CredentialAuthenticator({ ...doors, tokens }) };
	const browser = new BrowserLogin({
		...deps,
		tokens,
		provider: new WebClient(web),
		logout: oidc.logoutTokens(web.clientId),
		sealer: new Sealer(pepper.derive('browser sessions'), rng),
	});
	scope.use(new LoginReconciler({ ...deps, browser }));
	const gate = edge === undefined ? {} : { edge };
	const refused: AuthRoutesOptions['refused'] = async ({ method, url, peer }, error) => {
		const page = `${method} ${url.pathname.slice(0, 64)}`;
		const ctx = {
			...systemContext('login', clock, log, uuidv7(clock.now(), rng)),
			actor: ANONYMOUS,
			method: page,
			peer,
		};
		await deps.refusals.record(ctx, { action: 'logins.refuse', target: page, organizations: [] }, error);
	};
	const auth = new AuthRoutes({ browser, clock, log, issuers, origin: web.origin, refused, ...gate });
	return { authenticator: new CredentialAuthenticator({ ...doors, tokens, browser }), auth, browser };
}

function directoriesOf({ directory, scim, deps: { clock } }: DoorsOptions): readonly Directory[] {
	return [
		...(directory === undefined ? [] : [new KeycloakDirectory(directory, clock)]),
		...(scim === undefined ? [] : [new ScimDirectory(scim, clock)]),
	];
}
