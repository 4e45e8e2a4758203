import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { unitOf } from './host-units.ts';

let root: string;
beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'units-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function has(path: string, text = ''): void {
	mkdirSync(dirname(join(root, path)), { recursive: true });
	writeFileSync(join(root, path), text);
}

const UNIT = 'gpuaas-process-host.service';
const AGENT = '0::/system.slice/gpuaas-agent.service\n';
const HYBRID = '4:memory:/user.slice\n1:name=systemd:/system.slice/gpuaas-agent.service\n0::/system.slice/x.scope\n';

test.each([
	['its own service, with the unit', AGENT, `etc/systemd/system/${UNIT}`, UNIT],
	['its own service on a hybrid hierarchy', HYBRID, `usr/lib/systemd/system/${UNIT}`, UNIT],
	['its own service, without the unit', AGENT, 'etc/systemd/system/other.service', undefined],
	['a login', '0::/user.slice/user-0.slice/session-3.scope\n', `etc/systemd/system/${UNIT}`, undefined],
	[
		'a service of a person',
		'0::/user.slice/user@7.service/app.slice/a.service\n',
		`etc/systemd/system/${UNIT}`,
		undefined,
	],
	['a container', '0::/\n', `etc/systemd/system/${UNIT}`, undefined],
])('an agent in %s', (_where, groups, file, unit) => {
	has('proc/self/cgroup', groups);
	has(file);
	expect(unitOf('processHost', 'auto', root)).toBe(unit);
	expect(unitOf('ptyHost', 'auto', root)).toBeUndefined();
});

test('the configuration decides where it says so', () => {
	expect(unitOf('ptyHost', 'units', root)).toBe('gpuaas-pty-host.service');
	has('proc/self/cgroup', AGENT);
	has(`etc/systemd/system/${UNIT}`);
	expect(unitOf('processHost', 'agent', root)).toBeUndefined();
});
