import { expect, it } from 'vitest';
import { CALLS } from './calls.ts';

it('nothing that sets anything is called, nor what blocks by its own word', () => {
	const names = Object.keys(CALLS);
	// Modes, clocks, limits, MIG: the owner's to set, and a change may reset or unbind a GPU.
	const sets =
		/^nvml(Device|System|Unit|GpuInstance|ComputeInstance|Vgpu\w*)(Set|Clear|Reset|Create|Destroy|Remove|Modify)/;
	expect(names.filter((name) => sets.test(name))).toEqual([]);
	// 20 ms a direction (nvml.h): a third of a second on eight GPUs.
	expect(names).not.toContain('nvmlDeviceGetPcieThroughput');
	expect(names.length).toBeGreaterThan(60);
});
