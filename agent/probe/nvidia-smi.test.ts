import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { askNvidiaSmi, parseNvidiaSmi } from './nvidia-smi.ts';

const XML = `<?xml version="1.0" ?>
<nvidia_smi_log>
	<driver_version>570.86.15</driver_version>
	<cuda_version>12.8</cuda_version>
	<gpu id="00000000:1B:00.0">
		<product_name>NVIDIA H100 80GB HBM3</product_name>
		<mig_mode><current_mig>Enabled</current_mig></mig_mode>
		<serial>1650123456789</serial>
		<uuid>GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee</uuid>
		<minor_number>2</minor_number>
		<vbios_version>96.00.74.00.01</vbios_version>
		<gsp_firmware_version>N/A</gsp_firmware_version>
		<fb_memory_usage><total>81559 MiB</total><used>1 MiB</used></fb_memory_usage>
		<bar1_memory_usage><total>131072 MiB</total></bar1_memory_usage>
	</gpu>
	<gpu id="00000000:43:00.0">
		<uuid>GPU-ffffffff-bbbb-cccc-dddd-eeeeeeeeeeee</uuid>
	</gpu>
</nvidia_smi_log>`;

it('has each GPU with what it is, and leaves out what is not available', () => {
	const { driver, cuda, gpus } = parseNvidiaSmi(XML);
	expect([driver, cuda, gpus.length]).toEqual(['570.86.15', 12_080, 2]);
	expect(gpus[0]).toMatchObject({
		uuid: 'GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee',
		index: 0,
		name: 'NVIDIA H100 80GB HBM3',
		serial: '1650123456789',
		pciBusId: '00000000:1B:00.0',
		minor: 2,
		gspFirmware: '',
		memoryBytes: 81_559 * 1_048_576,
		isMig: true,
	});
	expect(gpus[1]).toMatchObject({ index: 1, serial: '', memoryBytes: 0, isMig: false });
	expect(parseNvidiaSmi('no XML at all')).toEqual({ driver: '', cuda: 0, gpus: [] });
});

it('is asked of the program, and nothing comes of one that fails or is not there', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'smi-'));
	const program = join(folder, 'nvidia-smi');
	const write = (script: string) => {
		writeFileSync(program, `#!/bin/sh\n${script}\n`);
		chmodSync(program, 0o755);
	};
	write(`[ "$1 $2" = "-q -x" ] || exit 3\ncat <<'END'\n${XML}\nEND`);
	expect((await askNvidiaSmi(program))?.gpus).toHaveLength(2);
	write('exit 9');
	expect(await askNvidiaSmi(program)).toBeUndefined();
	rmSync(folder, { recursive: true });
	expect(await askNvidiaSmi(program)).toBeUndefined();
});

it('waits no longer than a minute for one that nothing ends', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'smi-'));
	const program = join(folder, 'nvidia-smi');
	// It lets nobody end it; ended by its last line when the test is over.
	writeFileSync(program, `#!/bin/sh\ntrap '' TERM\n: > ${program}.up\nwhile [ -e ${program} ]; do sleep 0.05; done\n`);
	chmodSync(program, 0o755);
	const clock = new VirtualClock();
	const answer = askNvidiaSmi(program, clock);
	await expect.poll(() => existsSync(`${program}.up`)).toBe(true);
	clock.advance(60_000);
	expect(await answer).toBeUndefined();
	rmSync(folder, { recursive: true });
});
