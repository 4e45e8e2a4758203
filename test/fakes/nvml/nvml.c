/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1, so that the probe's real path (dlopen, koffi, structures, return codes) runs
 * where there is no GPU. Written from agent/probe/layout.ts. It exports gpuaas_simulated_nvml, by which the product
 * labels everything that comes from it.
 */
#define _GNU_SOURCE
#include "device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct model_facts MODELS[] = {
	[A100] = {"NVIDIA A100-SXM4-80GB", 7, 8, 12, 4, 108, 0x20b210de, 80ull << 30, 0, 0, 0},
	[H100] = {"NVIDIA H100 80GB HBM3", 9, 9, 18, 6, 132, 0x233010de, 80ull << 30, 1, 0, 1},
	[H200] = {"NVIDIA H200", 9, 9, 18, 6, 132, 0x233510de, 141ull << 30, 1, 0, 1},
	[H100_PCIE] = {"NVIDIA H100 PCIe", 9, 9, 12, 6, 114, 0x233110de, 80ull << 30, 1, 0, 1},
	[B200] = {"NVIDIA B200", 10, 10, 18, 7, 148, 0x290110de, 180ull << 30, 1, 1, 1},
};

static int initialised;
static struct device devices[GPUS_MAX];
static struct device slices[GPUS_MAX][SLICES_MAX];
static int event_set;

EXPORT int gpuaas_simulated_nvml(void) { return 1; }

int enter(const char *call, struct device *d) {
	if (!initialised) return UNINITIALIZED;
	/* A slice that was removed: its handle is of nothing. */
	if (d && d->slice >= scenario.mig) return INVALID_ARGUMENT;
	return scenario_enter(call, d ? d->gpu : -1);
}

/* The n-th GPU that is still enumerated. */
static struct device *nth(u32 index) {
	u32 seen = 0;
	for (int g = 0; g < scenario.gpus; g++)
		if (!scenario.gpu[g].gone && seen++ == index) return &devices[g];
	return NULL;
}

static int text(char *out, u32 length, const char *value) {
	if (strlen(value) + 1 > length) return INSUFFICIENT_SIZE;
	strcpy(out, value);
	return SUCCESS;
}

static int put(u32 *out, u32 value) {
	*out = value;
	return SUCCESS;
}

EXPORT int nvmlInit_v2(void) {
	scenario_read();
	int code = scenario_enter(__func__, -1);
	if (code) return code;
	if (scenario.init_code) return scenario.init_code;
	for (int g = 0; g < GPUS_MAX; g++) {
		devices[g] = (struct device){g, -1};
		for (int s = 0; s < SLICES_MAX; s++) slices[g][s] = (struct device){g, s};
	}
	initialised = 1;
	return SUCCESS;
}

EXPORT int nvmlShutdown(void) {
	ENTER(NULL);
	initialised = 0;
	return SUCCESS;
}

EXPORT int nvmlSystemGetDriverVersion(char *out, u32 length) { ENTER(NULL); return text(out, length, scenario.driver); }
EXPORT int nvmlSystemGetNVMLVersion(char *out, u32 length) { ENTER(NULL); return text(out, length, "12.570.86.15"); }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *out) { ENTER(NULL); *out = 12080; return SUCCESS; }
EXPORT int nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *out) { ENTER(NULL); *out = (nvmlConfComputeSystemState_t){1, 0, 0}; return scenario.model == A100 ? NOT_SUPPORTED : SUCCESS; }
EXPORT int nvmlSystemGetConfComputeGpusReadyState(u32 *out) { ENTER(NULL); return put(out, 1); }

EXPORT int nvmlDeviceGetCount_v2(u32 *out) {
	scenario_read();
	ENTER(NULL);
	*out = 0;
	while (nth(*out)) ++*out;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(u32 index, struct device **out) {
	struct device *found = nth(index);
	if (!found) return INVALID_ARGUMENT;
	ENTER(found);
	*out = found;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetUUID(struct device *h, char *out, u32 length) {
	ENTER(h);
	char value[96];
	if (d->slice < 0) snprintf(value, sizeof value, "GPU-fa4e0000-0000-4000-8000-%012x", d->gpu);
	else snprintf(value, sizeof value, "MIG-fa4e0000-0000-4000-8000-%06x%06x", d->gpu, d->slice);
	return text(out, length, value);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **out) {
	for (int g = 0; g < scenario.gpus; g++) {
		char value[96];
		snprintf(value, sizeof value, "GPU-fa4e0000-0000-4000-8000-%012x", g);
		if (strcmp(value, uuid)) continue;
		ENTER(&devices[g]);
		*out = &devices[g];
		return SUCCESS;
	}
	return NOT_FOUND;
}

EXPORT int nvmlDeviceGetName(struct device *h, char *out, u32 length) {
	ENTER(h);
	char value[96];
	snprintf(value, sizeof value, d->slice < 0 ? "%s" : "%s MIG 1g.10gb", FACTS->name);
	return text(out, length, value);
}

EXPORT int nvmlDeviceGetSerial(struct device *h, char *out, u32 length) { ENTER(h); char v[32]; snprintf(v, sizeof v, "165000000%04d", d->gpu); return text(out, length, v); }
EXPORT int nvmlDeviceGetBoardPartNumber(struct device *h, char *out, u32 length) { ENTER(h); return text(out, length, "692-2G520-0200-000"); }
EXPORT int nvmlDeviceGetVbiosVersion(struct device *h, char *out, u32 length) { ENTER(h); return text(out, length, "96.00.74.00.01"); }
EXPORT int nvmlDeviceGetInforomImageVersion(struct device *h, char *out, u32 length) { ENTER(h); return text(out, length, "G520.0200.00.05"); }
EXPORT int nvmlDeviceGetGspFirmwareVersion(struct device *h, char *out) { ENTER(h); strcpy(out, scenario.driver); return SUCCESS; }
EXPORT int nvmlDeviceGetMinorNumber(struct device *h, u32 *out) { ENTER(h); return put(out, (u32)d->gpu); }
EXPORT int nvmlDeviceGetNumaNodeId(struct device *h, u32 *out) { ENTER(h); return put(out, d->gpu < 4 ? 0 : 1); }
EXPORT int nvmlDeviceGetArchitecture(struct device *h, u32 *out) { ENTER(h); return put(out, FACTS->arch); }
EXPORT int nvmlDeviceGetCudaComputeCapability(struct device *h, int *major, int *minor) { ENTER(h); *major = (int)FACTS->capability_major; *minor = 0; return SUCCESS; }

EXPORT int nvmlDeviceGetPciInfo_v3(struct device *h, nvmlPciInfo_t *out) {
	ENTER(h);
	memset(out, 0, sizeof *out);
	out->bus = (u32)(0x1b + 0x10 * d->gpu);
	out->pciDeviceId = FACTS->device_id;
	snprintf(out->busId, sizeof out->busId, "00000000:%02X:00.0", out->bus);
	snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "0000:%02X:00.0", out->bus);
	return SUCCESS;
}

EXPORT int nvmlDeviceGetPlatformInfo(struct device *h, nvmlPlatformInfo_v2_t *out) {
	ENTER(h);
	if (scenario.model != B200) return NOT_SUPPORTED;
	if (out->version != VERSION_nvmlPlatformInfo_v2_t) return ARGUMENT_VERSION_MISMATCH;
	memcpy(out->chassisSerialNumber, "CHASSIS-1", 10);
	out->slotNumber = 3;
	out->trayIndex = 1;
	out->moduleId = (unsigned char)(d->gpu + 1);
	return SUCCESS;
}

static u64 used_bytes(struct device *d) { return (u64)(d->gpu + 1) << 30; }

EXPORT int nvmlDeviceGetMemoryInfo_v2(struct device *h, nvmlMemory_v2_t *out) {
	ENTER(h);
	if (out->version != VERSION_nvmlMemory_v2_t) return ARGUMENT_VERSION_MISMATCH;
	out->total = d->slice < 0 ? FACTS->memory : FACTS->memory / 8;
	out->reserved = 512ull << 20;
	out->used = d->slice < 0 ? used_bytes(d) : 1ull << 30;
	out->free = out->total - out->reserved - out->used;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryInfo(struct device *h, nvmlMemory_t *out) { ENTER(h); out->total = FACTS->memory; out->used = used_bytes(d) + (512ull << 20); out->free = out->total - out->used; return SUCCESS; }
EXPORT int nvmlDeviceGetBAR1MemoryInfo(struct device *h, nvmlBAR1Memory_t *out) { ENTER(h); out->bar1Total = 128ull << 30; out->bar1Used = 2ull << 20; out->bar1Free = out->bar1Total - out->bar1Used; return SUCCESS; }

EXPORT int nvmlDeviceGetUtilizationRates(struct device *h, nvmlUtilization_t *out) {
	ENTER(h);
	if (scenario.mig) return NOT_SUPPORTED;
	*out = (nvmlUtilization_t){40 + (u32)d->gpu, 20 + (u32)d->gpu};
	return SUCCESS;
}

static int engine(struct device *d, u32 *value, u32 *period, u32 base) {
	if (scenario.mig) return NOT_SUPPORTED;
	*value = base + (u32)d->gpu;
	*period = 167000;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetEncoderUtilization(struct device *h, u32 *v, u32 *p) { ENTER(h); return engine(d, v, p, 1); }
EXPORT int nvmlDeviceGetDecoderUtilization(struct device *h, u32 *v, u32 *p) { ENTER(h); return engine(d, v, p, 2); }
EXPORT int nvmlDeviceGetJpgUtilization(struct device *h, u32 *v, u32 *p) { ENTER(h); return engine(d, v, p, 3); }
EXPORT int nvmlDeviceGetOfaUtilization(struct device *h, u32 *v, u32 *p) { ENTER(h); return engine(d, v, p, 4); }
EXPORT int nvmlDeviceGetPowerUsage(struct device *h, u32 *out) { ENTER(h); return put(out, 300500 + 1000 * (u32)d->gpu); }

EXPORT int nvmlDeviceGetTotalEnergyConsumption(struct device *h, u64 *out) {
	ENTER(h);
	nvmlFieldValue_t field = {.fieldId = 83};
	int code = fill_field(d, &field);
	*out = field.value.ull;
	return code;
}

static const u32 CLOCKS[] = {1700, 1750, 2619, 1545}, CLOCKS_MAX[] = {1980, 1980, 2619, 1545};
EXPORT int nvmlDeviceGetClockInfo(struct device *h, u32 kind, u32 *out) { ENTER(h); return kind > 3 ? INVALID_ARGUMENT : put(out, CLOCKS[kind] + (kind == 1 ? (u32)d->gpu : 0)); }
EXPORT int nvmlDeviceGetMaxClockInfo(struct device *h, u32 kind, u32 *out) { ENTER(h); return kind > 3 ? INVALID_ARGUMENT : put(out, CLOCKS_MAX[kind]); }
EXPORT int nvmlDeviceGetPerformanceState(struct device *h, u32 *out) { ENTER(h); return put(out, 0); }
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(struct device *h, u64 *out) { ENTER(h); *out = scenario.gpu[d->gpu].throttle_reasons; return SUCCESS; }
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *h, u64 *out) { ENTER(h); *out = scenario.gpu[d->gpu].throttle_reasons; return SUCCESS; }
EXPORT int nvmlDeviceGetTemperature(struct device *h, u32 sensor, u32 *out) { ENTER(h); return sensor ? INVALID_ARGUMENT : put(out, (u32)scenario.gpu[d->gpu].temperature); }

EXPORT int nvmlDeviceGetTemperatureV(struct device *h, nvmlTemperature_v1_t *out) {
	ENTER(h);
	if (out->version != VERSION_nvmlTemperature_v1_t) return ARGUMENT_VERSION_MISMATCH;
	out->temperature = scenario.gpu[d->gpu].temperature;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetMarginTemperature(struct device *h, nvmlMarginTemperature_v1_t *out) {
	ENTER(h);
	if (out->version != VERSION_nvmlMarginTemperature_v1_t) return ARGUMENT_VERSION_MISMATCH;
	out->marginTemperature = 87 - scenario.gpu[d->gpu].temperature;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetFieldValues(struct device *h, int count, nvmlFieldValue_t *fields) {
	ENTER(h);
	for (int i = 0; i < count; i++) fields[i].nvmlReturn = fill_field(d, &fields[i]);
	return SUCCESS;
}

EXPORT int nvmlDeviceGetSramEccErrorStatus(struct device *h, nvmlEccSramErrorStatus_v1_t *out) {
	ENTER(h);
	if (out->version != VERSION_nvmlEccSramErrorStatus_v1_t) return ARGUMENT_VERSION_MISMATCH;
	out->aggregateCor = 11;
	out->aggregateUncParity = 1;
	out->aggregateUncSecDed = 2;
	out->bThresholdExceeded = (u32)scenario.gpu[d->gpu].sram_threshold;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetRowRemapperHistogram(struct device *h, nvmlRowRemapperHistogramValues_t *out) { ENTER(h); *out = (nvmlRowRemapperHistogramValues_t){640, 0, 1, 0, 0}; return SUCCESS; }

EXPORT int nvmlDeviceGetRepairStatus(struct device *h, nvmlRepairStatus_v1_t *out) {
	ENTER(h);
	if (scenario.model != B200) return NOT_SUPPORTED;
	if (out->version != VERSION_nvmlRepairStatus_v1_t) return ARGUMENT_VERSION_MISMATCH;
	out->bChannelRepairPending = out->bTpcRepairPending = 0;
	return SUCCESS;
}

EXPORT int nvmlDeviceGetUnrepairableMemoryFlag_v1(struct device *h, nvmlUnrepairableMemoryStatus_v1_t *out) { ENTER(h); out->bUnrepairableMemory = 0; return scenario.model == B200 ? SUCCESS : NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetNvLinkState(struct device *h, u32 link, u32 *out) { ENTER(h); const struct gpu_state *s = &scenario.gpu[d->gpu]; return link >= FACTS->links ? INVALID_ARGUMENT : s->nvlink_error && link == (u32)s->nvlink_error - 1 ? UNKNOWN : put(out, link >= (u32)s->nvlinks_down); }
EXPORT int nvmlDeviceGetNvLinkVersion(struct device *h, u32 link, u32 *out) { ENTER(h); return link >= FACTS->links ? INVALID_ARGUMENT : put(out, FACTS->link_version); }
EXPORT int nvmlDeviceGetCurrPcieLinkGeneration(struct device *h, u32 *out) { ENTER(h); return put(out, scenario.model == A100 ? 4 : 5); }
EXPORT int nvmlDeviceGetCurrPcieLinkWidth(struct device *h, u32 *out) { ENTER(h); return put(out, 16); }
EXPORT int nvmlDeviceGetMaxPcieLinkGeneration(struct device *h, u32 *out) { ENTER(h); return put(out, scenario.model == A100 ? 4 : 5); }
EXPORT int nvmlDeviceGetMaxPcieLinkWidth(struct device *h, u32 *out) { ENTER(h); return put(out, 16); }
EXPORT int nvmlDeviceGetMigMode(struct device *h, u32 *current, u32 *pending) { ENTER(h); *current = *pending = (u32)(scenario.mig > 0); return SUCCESS; }
EXPORT int nvmlDeviceGetMaxMigDeviceCount(struct device *h, u32 *out) { ENTER(h); return put(out, SLICES_MAX); }

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(struct device *h, u32 index, struct device **out) {
	ENTER(h);
	/* Instances were made and removed: the numbers have holes. */
	if (!scenario.mig || index >= SLICES_MAX || (scenario.mig < SLICES_MAX && index % 2 && index > (u32)scenario.mig)) return NOT_FOUND;
	if (index >= (u32)scenario.mig) return NOT_FOUND;
	*out = &slices[d->gpu][index];
	return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuInstanceId(struct device *h, u32 *out) { ENTER(h); return d->slice < 0 ? NOT_SUPPORTED : put(out, 7 + (u32)d->slice); }
EXPORT int nvmlDeviceGetComputeInstanceId(struct device *h, u32 *out) { ENTER(h); return d->slice < 0 ? NOT_SUPPORTED : put(out, 0); }
EXPORT int nvmlDeviceGetGpuInstanceById(struct device *h, u32 id, struct device **out) { ENTER(h); if (id < 7 || id >= 7 + SLICES_MAX) return NOT_FOUND; *out = &slices[d->gpu][id - 7]; return SUCCESS; }
EXPORT int nvmlGpuInstanceGetInfo(struct device *h, nvmlGpuInstanceInfo_t *out) { ENTER(h); memset(out, 0, sizeof *out); out->id = 7 + (u32)d->slice; out->profileId = 19; return SUCCESS; }

EXPORT int nvmlDeviceGetGpuInstanceProfileInfoV(struct device *h, u32 profile, nvmlGpuInstanceProfileInfo_v2_t *out) {
	ENTER(h);
	if (out->version != VERSION_nvmlGpuInstanceProfileInfo_v2_t) return ARGUMENT_VERSION_MISMATCH;
	if (profile != 0) return NOT_SUPPORTED;
	out->id = 19;
	strcpy(out->name, "MIG 1g.10gb");
	return SUCCESS;
}

EXPORT int nvmlDeviceGetAttributes_v2(struct device *h, nvmlDeviceAttributes_t *out) {
	ENTER(h);
	if (d->slice < 0) return NOT_SUPPORTED;
	*out = (nvmlDeviceAttributes_t){FACTS->sms / 8, 1, 1, 0, 1, 0, 1, 1, FACTS->memory / 8 >> 20};
	return SUCCESS;
}

static int processes(struct device *d, u32 *count, u32 there) {
	(void)d;
	u32 room = *count;
	*count = there;
	return there > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* Those that the scenario lists, of the whole GPU or of its first slice; with a number alone they have no values. */
static u32 listed(struct device *d, nvmlProcessInfo_t *out) {
	u32 found = 0;
	for (int i = 0; i < scenario.process_count; i++) {
		const struct process *p = &scenario.processes[i];
		if (p->gpu != d->gpu || (scenario.mig && d->slice != 0)) continue;
		u64 used = p->mib < 0 ? ~0ull : (u64)p->mib << 20;
		if (out) out[found] = (nvmlProcessInfo_t){(u32)p->pid, used, 0xffffffff, 0xffffffff};
		found++;
	}
	return found;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(struct device *h, u32 *count, nvmlProcessInfo_t *out) {
	ENTER(h);
	u32 there = listed(d, NULL), more = (u32)scenario.gpu[d->gpu].compute_processes, room = *count;
	int code = processes(d, count, there + more);
	if (code || room == 0) return code;
	listed(d, out);
	for (u32 i = 0; i < more; i++) out[there + i] = (nvmlProcessInfo_t){1000000 + i, 1 << 20, 0xffffffff, 0xffffffff};
	return SUCCESS;
}

EXPORT int nvmlDeviceGetProcessUtilization(struct device *h, nvmlProcessUtilizationSample_t *out, u32 *count, u64 since) {
	ENTER(h);
	if (scenario.mig) return NOT_SUPPORTED;
	u64 at = 1 + (u64)(scenario_seconds() * 1e6);
	u32 there = 0, room = *count;
	for (int i = 0; i < scenario.process_count; i++) there += scenario.processes[i].gpu == d->gpu && scenario.processes[i].sm >= 0;
	*count = there;
	if (there == 0 || at <= since) return NOT_FOUND;
	if (!out || room < there) return INSUFFICIENT_SIZE;
	u32 n = 0;
	for (int i = 0; i < scenario.process_count; i++) {
		const struct process *p = &scenario.processes[i];
		if (p->gpu == d->gpu && p->sm >= 0) out[n++] = (nvmlProcessUtilizationSample_t){(u32)p->pid, at, (u32)p->sm, 0, 0, 0};
	}
	return SUCCESS;
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(struct device *h, u32 *count, nvmlProcessInfo_t *out) { ENTER(h); (void)out; return processes(d, count, 0); }
EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v3(struct device *h, u32 *count, nvmlProcessInfo_t *out) { ENTER(h); (void)out; return processes(d, count, 0); }
EXPORT int nvmlDeviceGetPersistenceMode(struct device *h, u32 *out) { ENTER(h); return put(out, 1); }
EXPORT int nvmlDeviceGetComputeMode(struct device *h, u32 *out) { ENTER(h); return put(out, 0); }

EXPORT int nvmlDeviceGetGpuFabricInfoV(struct device *h, nvmlGpuFabricInfo_v3_t *out) {
	ENTER(h);
	if (scenario.model == A100 || scenario.model == H100_PCIE) return NOT_SUPPORTED;
	int is3 = out->version == VERSION_nvmlGpuFabricInfo_v3_t;
	if (is3 ? scenario.fabric_version < 3 : out->version != VERSION_nvmlGpuFabricInfo_v2_t) return ARGUMENT_VERSION_MISMATCH;
	const struct gpu_state *s = &scenario.gpu[d->gpu];
	memset(out->clusterUuid, 0xc1, sizeof out->clusterUuid);
	out->status = (u32)s->fabric_status;
	out->cliqueId = 4;
	out->state = (unsigned char)s->fabric_state;
	out->healthMask = (u32)s->fabric_mask;
	if (is3) out->healthSummary = (unsigned char)s->fabric_health;
	return SUCCESS;
}

EXPORT int nvmlGpmQueryDeviceSupport(struct device *h, nvmlGpmSupport_t *out) { ENTER(h); if (out->version != 1) return ARGUMENT_VERSION_MISMATCH; out->isSupportedDevice = (u32)FACTS->has_gpm; return SUCCESS; }

struct sample { double at; int gpu, instance; };
EXPORT int nvmlGpmSampleAlloc(struct sample **out) { ENTER(NULL); *out = calloc(1, sizeof **out); return SUCCESS; }
EXPORT int nvmlGpmSampleFree(struct sample *sample) { ENTER(NULL); free(sample); return SUCCESS; }
EXPORT int nvmlGpmSampleGet(struct device *h, struct sample *sample) { ENTER(h); if (scenario.mig) return NOT_SUPPORTED; *sample = (struct sample){scenario_seconds(), d->gpu, -1}; return SUCCESS; }
EXPORT int nvmlGpmMigSampleGet(struct device *h, u32 instance, struct sample *sample) { ENTER(h); *sample = (struct sample){scenario_seconds(), d->gpu, (int)instance}; return SUCCESS; }

EXPORT int nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *get) {
	ENTER(NULL);
	if (get->version != 1) return ARGUMENT_VERSION_MISMATCH;
	const struct sample *first = get->sample1, *second = get->sample2;
	if (first->gpu != second->gpu || first->instance != second->instance) return INVALID_ARGUMENT;
	for (u32 i = 0; i < get->numMetrics; i++) {
		get->metrics[i].nvmlReturn = SUCCESS;
		get->metrics[i].value = (double)get->metrics[i].metricId + 10 * second->gpu / 100.0 + (second->instance < 0 ? 0 : second->instance);
	}
	return SUCCESS;
}

EXPORT int nvmlDeviceGetSupportedEventTypes(struct device *h, u64 *out) { ENTER(h); *out = 0x11f; return SUCCESS; }
EXPORT int nvmlEventSetCreate(void **out) { ENTER(NULL); *out = &event_set; return SUCCESS; }
/* With what it still holds. */
EXPORT int nvmlEventSetFree(void *set) { ENTER(NULL); (void)set; scenario.event_count = 0; return SUCCESS; }
EXPORT int nvmlDeviceRegisterEvents(struct device *h, u64 types, void *set) { ENTER(h); return set == &event_set && (types & ~0x11full) == 0 ? SUCCESS : INVALID_ARGUMENT; }

EXPORT int nvmlEventSetWait_v2(void *set, nvmlEventData_t *out, u32 timeout) {
	ENTER(NULL);
	(void)set;
	if (scenario.event_count == 0) {
		usleep(timeout * 1000);
		return TIMEOUT;
	}
	const struct event next = scenario.events[0];
	memmove(scenario.events, scenario.events + 1, (size_t)--scenario.event_count * sizeof next);
	*out = (nvmlEventData_t){&devices[next.gpu], next.type, next.data, 0xffffffff, 0xffffffff};
	return SUCCESS;
}
