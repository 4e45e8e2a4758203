import { expect, test } from 'vitest';
import { present } from '../../../kit/assert.ts';
import { SCHEMA_NUMBER } from '../../../proto/telemetry-schema/schemas.ts';
import { familiesOf } from '../../app/telemetry/families.ts';
import { RemoteWriteEncoder } from './remote-write.ts';
import { snappyUncompress } from './snappy.ts';

const family = present(
	familiesOf(SCHEMA_NUMBER).find(({ name }) => name === 'gpuaas_gpu_temperature_celsius'),
	'the family',
);
const position = present(family.positions[0], 'where its values are');

function request(...values: readonly (number | undefined)[]): Buffer {
	const encoder = new RemoteWriteEncoder();
	encoder.begin([['instance', 'gpu-1']], 1_700_000_000_000);
	for (const value of values)
		encoder.series(
			family,
			position,
			[
				['uuid', 'GPU-1'],
				['empty', ''],
				['gpu', '0'],
			],
			value,
			[],
		);
	expect(encoder.seriesCount).toBe(values.length);
	return Buffer.from(snappyUncompress(encoder.take(), 1 << 20));
}

/** prometheus/model/value: the bits of the NaN that ends a series. */
const STALE = Buffer.alloc(8);
STALE.writeBigUInt64LE(0x7ff0_0000_0000_0002n);
const NAN = Buffer.alloc(8);
NAN.writeDoubleLE(Number.NaN);

test('a series that is gone ends with the very NaN that receivers take for its end', () => {
	expect(request(undefined).includes(STALE)).toBe(true);
	expect(request(undefined).includes(NAN)).toBe(false);
	expect(request(51).includes(STALE)).toBe(false);
});

test('labels are sorted by name, and empty ones are not sent', () => {
	const text = request(51).toString('latin1');
	const order = ['__name__', 'gpu', 'instance', 'uuid'].map((name) => text.indexOf(`${name}\u0012`));
	expect(order).not.toContain(-1);
	expect(order).toEqual(order.toSorted((left, right) => left - right));
	expect(text).not.toContain('empty');
});
