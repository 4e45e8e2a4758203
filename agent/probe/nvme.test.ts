import { expect, it } from 'vitest';
import { SMART } from './disk-health.ts';
import { parseSmartLog, readNvmeHealth } from './nvme.ts';

it('reads wear, spare, warnings and media errors from their places in the log', () => {
	const log = Buffer.alloc(512);
	log.writeUInt8(0x04, 0);
	log.writeUInt8(97, 3);
	log.writeUInt8(112, 5);
	log.writeBigUInt64LE(10n, 128);
	log.writeBigUInt64LE(12n, 160);
	log.writeBigUInt64LE(7n, 176);
	expect(parseSmartLog(log)).toEqual({
		...{ smart: SMART.read, criticalWarning: 4, spare: 0.97, wear: 1.12, mediaErrors: 12 },
		...{ powerOnSeconds: 36_000, errorsLogged: 7 },
	});
});

it('has nothing of what is no NVMe controller, or not there', () => {
	const refused = { device: 'null', health: { smart: SMART.failed }, why: 'the controller refused its SMART log' };
	expect(readNvmeHealth('null')).toEqual(refused);
	expect(readNvmeHealth('nonexistent').why).toBe('the controller could not be opened: ENOENT');
});
