import { toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { InventorySchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { NodeEntry } from './directory.ts';
import { fixtureInventory } from './frames-fixture.ts';
import { identitiesOf } from './identities.ts';
import { dcgmLabels, type HostnameLabel, ownLabels } from './labels.ts';
import type { NodeSample } from './sample.ts';
import { labelText } from './series-text.ts';

const inventory = fixtureInventory({ gpus: 1 });
const uuid = inventory.gpus[0]?.uuid ?? '';
const node = {
	id: 'n',
	name: 'gpu-1',
	hostname: 'gpu-1.example',
	custody: 'platform',
	generation: 1,
	labels: {},
} as const;
const entry: NodeEntry = {
	node: { ...node, bootId: '' },
	assignments: [],
	identities: identitiesOf(toBinary(InventorySchema, inventory)),
};
const sample = { nodeId: 'n', simulated: false } as NodeSample;
const row = { id: uuid, index: 0, values: new Float64Array() };
const labelsOf = (spelling: HostnameLabel, of = entry) => dcgmLabels(of, sample, 'gpu', row, spelling) ?? [];

test('are those of dcgm-exporter in its order, with the host by either of its spellings', () => {
	const names = (spelling: HostnameLabel) => labelsOf(spelling).map(([name]) => name);
	const before = ['gpu', 'UUID', 'pci_bus_id', 'device', 'modelName'];
	expect(names('Hostname')).toEqual([...before, 'Hostname', 'DCGM_FI_DRIVER_VERSION']);
	expect(names('hostname')).toEqual([...before, 'hostname', 'DCGM_FI_DRIVER_VERSION']);
	expect(labelsOf('hostname')).toContainEqual(['hostname', 'gpu-1.example']);
});

test('values of a test double say so, by either spelling of names', () => {
	const double = { ...sample, simulated: true };
	expect(dcgmLabels(entry, double, 'gpu', row, 'Hostname')?.at(-1)).toEqual(['simulated', 'true']);
	expect(ownLabels(entry, double, 'gpu', row).at(-1)).toEqual(['simulated', 'true']);
	expect(labelText([...labelsOf('Hostname'), ...ownLabels(entry, sample, 'gpu', row)])).not.toContain('simulated');
});

test('what a host calls itself can not leave its label', () => {
	const named = { ...entry, node: { ...entry.node, hostname: 'a"} 1\nfake{x="\\' } };
	expect(labelText(labelsOf('Hostname', named))).toContain('Hostname="a\\"} 1\\nfake{x=\\"\\\\"');
});

test('of a GPU that no inventory names there are none', () => {
	expect(dcgmLabels(entry, sample, 'gpu', { ...row, id: 'GPU-x' }, 'Hostname')).toBeUndefined();
	expect(dcgmLabels(undefined, sample, 'gpu', row, 'Hostname')).toBeUndefined();
});
