import { expect, test } from 'vitest';
import { SCHEMA_NUMBER } from '../../../proto/telemetry-schema/schemas.ts';
import { familiesOf } from './families.ts';
import { dcgmValueLabels } from './labels.ts';

const families = familiesOf(SCHEMA_NUMBER);
const convert = (name: string, value: number) =>
	families.find((family) => family.name === name)?.positions[0]?.convert(value);

test('names of dcgm-exporter have its units', () => {
	expect(convert('DCGM_FI_DEV_GPU_UTIL', 0.29)).toBe(29);
	expect(convert('DCGM_FI_DEV_FB_USED', 41_943_040_000)).toBe(40_000);
	expect(convert('DCGM_FI_DEV_FB_USED', 1_048_575)).toBe(0);
	expect(convert('DCGM_FI_DEV_SM_CLOCK', 1_410_000_000)).toBe(1410);
	expect(convert('DCGM_FI_DEV_POWER_USAGE', 431.5)).toBe(431.5);
	expect(convert('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 12.345)).toBe(12_345);
	expect(convert('DCGM_FI_PROF_PIPE_TENSOR_ACTIVE', 0.55)).toBe(0.55);
	expect(convert('DCGM_FI_DEV_GPU_TEMP', 51.4)).toBe(51);
});

test('every family is there once, and one of NVIDIA’s may hold MIG devices beside GPUs', () => {
	const names = families.map(({ name }) => name);
	expect(new Set(names).size).toBe(names.length);
	const used = families.find(({ name }) => name === 'DCGM_FI_DEV_FB_USED');
	expect(used?.positions.map(({ part }) => part)).toEqual(['gpu', 'slice']);
	const own = families.filter(({ names: set }) => set === 'gpuaas');
	expect(own.every(({ name, type }) => (type === 'counter') === name.endsWith('_total'))).toBe(true);
});

test('the default set of dcgm-exporter is served but for what NVML does not give on bare metal', () => {
	const served = families.filter(({ names }) => names === 'dcgm').map(({ name }) => name);
	expect(served.length).toBeGreaterThanOrEqual(22);
	expect(served).not.toContain('DCGM_FI_DEV_VGPU_LICENSE_STATUS');
	expect(served).not.toContain('DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL');
});

test('an XID says what it is', () => {
	expect(dcgmValueLabels('DCGM_FI_DEV_XID_ERRORS', 79)).toEqual([
		['err_code', '79'],
		['err_msg', 'GPU has fallen off the bus'],
	]);
	expect(dcgmValueLabels('DCGM_FI_DEV_XID_ERRORS', 9999)[1]).toEqual(['err_msg', 'Unknown Error']);
	expect(dcgmValueLabels('DCGM_FI_DEV_GPU_TEMP', 1)).toEqual([]);
});
