import { expect, test } from 'vitest';
import { GpuaasError } from '../../kit/error.ts';
import { testIo } from '../test-io.ts';
import { tellOutages } from './outage.ts';

const broken = new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message: 'nothing was heard' });

function told(tty: boolean) {
	const io = testIo();
	const events = tellOutages(io, 'gpu-07', tty);
	return { io, outage: () => events.outage(broken), attached: () => events.attached({} as never), link: events.link };
}

test('at a pipe: that it is broken, and that it is back, each once', () => {
	const { io, outage, attached, link } = told(false);
	attached();
	link(true);
	expect(io.err()).toBe('');
	link(false);
	link(false);
	link(true);
	link(true);
	outage();
	attached();
	expect(io.err().split('\n')).toEqual([
		"gpuaas: gpu-07 can't be reached now; waiting",
		'gpuaas: gpu-07 is reached again',
		'gpuaas: nothing was heard; trying again',
		'gpuaas: connected again',
		'',
	]);
});

test('at a terminal, which is drawn anew: that it is broken, below what stands there', () => {
	const { io, outage, attached, link } = told(true);
	link(false);
	link(true);
	outage();
	attached();
	// The node went meanwhile, and nobody here heard of it.
	link(false);
	const away = "\r\ngpuaas: gpu-07 can't be reached now; waiting\r\n";
	expect(io.err()).toBe(`${away}\r\ngpuaas: nothing was heard; trying again\r\n${away}`);
});
