import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Whether an account has a user manager of systemd, or could have one. Whoever runs as the account may ask it for a
 * process (systemd-run --user), which is then born under user.slice: in none of our cgroups, held to no list of devices.
 * `loginctl enable-linger` starts one without a login, and is allowed to everybody for themselves by default. Only a mask
 * of the account's unit keeps it away: `systemctl mask user@UID.service`.
 */
export interface Account {
	readonly name: string;
	readonly uid: number;
}

/** `possible`: there is none, and nothing keeps the account from starting one. */
export type UserManager = 'none' | 'possible' | 'running';

export interface ManagerPlaces {
	/** There when this machine was booted by systemd. */
	readonly booted: string;
	/** Where an administrator's units are, of this boot and of all. */
	readonly units: readonly string[];
	/** logind's: a file a user that is logged in or lingers. */
	readonly users: string;
	readonly linger: string;
	/** Mount points of hierarchies that systemd keeps its slices in. */
	readonly cgroups: readonly string[];
}

export const SYSTEMD: ManagerPlaces = {
	booted: '/run/systemd/system',
	units: ['/etc/systemd/system', '/run/systemd/system'],
	users: '/run/systemd/users',
	linger: '/var/lib/systemd/linger',
	cgroups: ['/sys/fs/cgroup', '/sys/fs/cgroup/systemd', '/sys/fs/cgroup/unified'],
};

export function userManagerOf({ name, uid }: Account, places: ManagerPlaces = SYSTEMD): UserManager {
	if (!isThere(places.booted)) return 'none';
	const unit = `user@${uid}.service`;
	if (places.cgroups.some((mount) => isThere(join(mount, 'user.slice', `user-${uid}.slice`, unit)))) return 'running';
	// Of who is logged in logind has a file, masked or not.
	if ([unit, EVERY_UNIT].some((masked) => places.units.some((folder) => isMask(join(folder, masked))))) return 'none';
	return isThere(join(places.users, String(uid))) || isThere(join(places.linger, name)) ? 'running' : 'possible';
}

/** Of all accounts. */
const EVERY_UNIT = 'user@.service';

export interface LeakyAccount {
	readonly name: string;
	/** Undefined: of another name service than /etc/passwd. */
	readonly uid: number | undefined;
	readonly manager: Exclude<UserManager, 'none'>;
}

/** What has to be done about it, for refusals and `agent status`. */
export function managerAdvice({ name, uid, manager }: LeakyAccount): string {
	const what = manager === 'running' ? 'has a user manager of systemd' : 'may start a user manager of systemd';
	const unit = `user@${uid ?? `$(id -u ${name})`}.service`;
	return `${name} ${what}, which starts programs outside of all that holds them to their devices: systemctl mask --now ${unit}, and loginctl disable-linger ${name}`;
}

/** Of these, without root, who is not held anyway. Who is not in /etc/passwd has one unless all accounts' unit is masked. */
export function leakyAccounts(
	names: Iterable<string>,
	places: ManagerPlaces = SYSTEMD,
	passwd = '/etc/passwd',
): readonly LeakyAccount[] {
	if (!isThere(places.booted)) return [];
	const lines = readFileSync(passwd, 'utf8').split('\n');
	const uids = new Map(lines.map((line) => line.split(':')).map(([name = '', , uid]) => [name, Number(uid)]));
	return [...new Set(names)].flatMap((name) => {
		const uid = uids.get(name);
		if (uid === 0) return [];
		const manager = uid === undefined ? managerOfAnybody(places) : userManagerOf({ name, uid }, places);
		return manager === 'none' ? [] : [{ name, uid, manager }];
	});
}

function managerOfAnybody({ units }: ManagerPlaces): UserManager {
	return units.some((folder) => isMask(join(folder, EVERY_UNIT))) ? 'none' : 'possible';
}

function isThere(path: string): boolean {
	return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function isMask(path: string): boolean {
	try {
		return readlinkSync(path) === '/dev/null';
	} catch {
		return false;
	}
}
