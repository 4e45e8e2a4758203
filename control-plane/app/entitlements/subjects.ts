import { GpuaasError } from '../../../kit/error.ts';

/** What can be entitled to. GPU models are called as the driver calls them, so that nothing has to be translated. */
export const ANY_GPU_MODEL = 'gpu-model/*';
export const HOST_MODE = 'feature/host-mode';
const FEATURES: readonly string[] = [HOST_MODE];
const GPU_MODEL = /^gpu-model\/(?:\*|[!-)+-~][ -)+-~]{0,95})$/;

export function gpuModel(name: string): string {
	return `gpu-model/${name}`;
}

/** Throws ENTITLEMENT_INVALID for what nothing ever asks for. */
export function assertSubject(subject: string): void {
	if (FEATURES.includes(subject) || GPU_MODEL.test(subject)) return;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'ENTITLEMENT_INVALID',
		message: `nothing asks for "${subject}", so nothing was granted; write gpu-model/NAME as gpuaas gpu list shows it, gpu-model/* for all of them, or one of ${FEATURES.join(', ')}`,
	});
}
