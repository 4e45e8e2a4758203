#ifndef DEVICE_H
#define DEVICE_H
#include "scenario.h"
#include "structs.h"

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN = 999 };

struct device {
	int gpu;
	int slice; /* -1: the whole GPU */
};

struct model_facts {
	const char *name;
	u32 arch, capability_major, links, link_version, sms, device_id;
	u64 memory;
	int has_gpm, has_module_power, counts_pcie;
};

extern const struct model_facts MODELS[];
#define FACTS (&MODELS[scenario.model])
#define EXPORT __attribute__((visibility("default")))

/* Every call begins with this: initialised, known handle, and whatever the scenario does to it. */
#define ENTER(handle) \
	struct device *d = (handle); \
	(void)d; \
	{ int code = enter(__func__, d); if (code) return code; }

int enter(const char *call, struct device *d);
int fill_field(struct device *d, nvmlFieldValue_t *field);

#endif
