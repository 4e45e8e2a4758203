/* NVML's structures as far as the fake fills them, checked against agent/probe/layout.ts (layout.h is made of it). */
#ifndef STRUCTS_H
#define STRUCTS_H
#include <stddef.h>

typedef unsigned int u32;
typedef unsigned long long u64;

typedef struct { u32 gpu, memory; } nvmlUtilization_t;
typedef struct { u64 total, free, used; } nvmlMemory_t;
typedef struct { u32 version; u64 total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { u64 bar1Total, bar1Free, bar1Used; } nvmlBAR1Memory_t;
typedef struct { char busIdLegacy[16]; u32 domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } nvmlPciInfo_t;
typedef union { double d; int i; u32 u; u64 ull; long long sll; } value_t;
typedef struct { u32 fieldId, scopeId; long long timestamp, latencyUsec; u32 valueType; int nvmlReturn; value_t value; } nvmlFieldValue_t;
typedef struct { u32 pid; u64 usedGpuMemory; u32 gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct { void *device; u64 eventType, eventData; u32 gpuInstanceId, computeInstanceId; } nvmlEventData_t;
typedef struct { u32 pid; u64 timeStamp; u32 smUtil, memUtil, encUtil, decUtil; } nvmlProcessUtilizationSample_t;
typedef struct { u32 version; unsigned char clusterUuid[16]; u32 status, cliqueId; unsigned char state; u32 healthMask; } nvmlGpuFabricInfo_v2_t;
typedef struct { u32 version; unsigned char clusterUuid[16]; u32 status, cliqueId; unsigned char state; u32 healthMask; unsigned char healthSummary; } nvmlGpuFabricInfo_v3_t;
typedef struct { u32 version; u64 aggregateUncParity, aggregateUncSecDed, aggregateCor, volatileUncParity, volatileUncSecDed, volatileCor, bucketL2, bucketSm, bucketPcie, bucketMcu, bucketOther; u32 bThresholdExceeded; } nvmlEccSramErrorStatus_v1_t;
typedef struct { u32 version, sensorType; int temperature; } nvmlTemperature_v1_t;
typedef struct { u32 version; int marginTemperature; } nvmlMarginTemperature_v1_t;
typedef struct { void *device; u32 id, profileId, placementStart, placementSize; } nvmlGpuInstanceInfo_t;
typedef struct { u32 version, id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount, copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount; u64 memorySizeMB; char name[96]; } nvmlGpuInstanceProfileInfo_v2_t;
typedef struct { u32 multiprocessorCount, copyEngines, decoders, encoders, jpegs, ofas, gpuInstanceSliceCount, computeInstanceSliceCount; u64 memorySizeMB; } nvmlDeviceAttributes_t;
typedef struct { u32 metricId; int nvmlReturn; double value; struct { char *shortName, *longName, *unit; } info; } nvmlGpmMetric_t;
typedef struct { u32 version, numMetrics; void *sample1, *sample2; nvmlGpmMetric_t metrics[333]; } nvmlGpmMetricsGet_t;
typedef struct { u32 version, isSupportedDevice; } nvmlGpmSupport_t;
typedef struct { u32 environment, ccFeature, devToolsMode; } nvmlConfComputeSystemState_t;
typedef struct { u32 version; unsigned char ibGuid[16], chassisSerialNumber[16], slotNumber, trayIndex, hostId, peerType, moduleId; } nvmlPlatformInfo_v2_t;
typedef struct { u32 max, high, partial, low, none; } nvmlRowRemapperHistogramValues_t;
typedef struct { u32 version, bChannelRepairPending, bTpcRepairPending; } nvmlRepairStatus_v1_t;
typedef struct { u32 bUnrepairableMemory; } nvmlUnrepairableMemoryStatus_v1_t;

#include "layout.h"

#endif
