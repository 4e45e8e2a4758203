/* Field values. Each is a formula of GPU number and time, so that a test knows what must come out. */
#include "device.h"

enum { F64 = 0, U32 = 1, U64 = 3, I32 = 5 };

static int give(nvmlFieldValue_t *f, u32 type, u64 value) {
	f->valueType = type;
	if (type == U32) f->value.u = (u32)value;
	else if (type == I32) f->value.i = (int)(long long)value;
	else f->value.ull = value;
	return SUCCESS;
}

static u64 counter(u64 base, u64 per_second) {
	/* 4 GiB short of the end, so that a test sees it wrap. */
	u64 start = scenario.wrap ? 0xffffffffull - base : base;
	u64 value = start + (u64)(scenario_seconds() * (double)per_second);
	return scenario.wrap ? value & 0xffffffffull : value;
}

static int fill_nvlink(int g, const struct gpu_state *s, nvmlFieldValue_t *f) {
	int is5 = FACTS->link_version >= 7;
	u64 links = f->scopeId == 0xffffffffu ? FACTS->links : 1;
	if (f->scopeId != 0xffffffffu && f->scopeId >= FACTS->links) return INVALID_ARGUMENT;
	switch (f->fieldId) {
	case 138: return is5 ? NOT_SUPPORTED : give(f, U64, links * counter(1000 + (u64)g, 100));
	case 139: return is5 ? NOT_SUPPORTED : give(f, U64, links * counter(2000 + (u64)g, 200));
	case 161: return is5 ? NOT_SUPPORTED : give(f, U64, s->nvlink_replays);
	case 162: case 163: return is5 ? NOT_SUPPORTED : give(f, U64, 0);
	case 165: if (s->nvlink_error && f->scopeId == (u32)s->nvlink_error - 1) return UNKNOWN;
		return give(f, U32, f->scopeId >= (u32)s->nvlinks_down);
	case 166: return give(f, U32, FACTS->link_version);
	case 164: return give(f, U32, is5 ? 53125 : 26562);
	case 213: case 214: case 215: return is5 ? give(f, U64, f->fieldId - 213) : NOT_SUPPORTED;
	case 202: return is5 ? give(f, U64, links * counter(5000 + (u64)g, 5000)) : NOT_SUPPORTED;
	case 204: return is5 ? give(f, U64, links * counter(6000 + (u64)g, 6000)) : NOT_SUPPORTED;
	case 220: case 222: return is5 ? give(f, U64, (5 << 8) | 12) : NOT_SUPPORTED;
	default:
		if (f->fieldId >= 206 && f->fieldId <= 221) return is5 ? give(f, U64, f->fieldId == 211 ? s->nvlink_replays : 0) : NOT_SUPPORTED;
		if (f->fieldId >= 235 && f->fieldId <= 250) return is5 ? give(f, U64, f->fieldId < 243 ? 100 : 1) : NOT_SUPPORTED;
		return INVALID_ARGUMENT;
	}
}

static int fill_power(int g, nvmlFieldValue_t *f) {
	if (f->scopeId == 1 && !FACTS->has_module_power) return NOT_SUPPORTED;
	switch (f->fieldId) {
	case 185: return scenario.model == A100 ? NOT_SUPPORTED : give(f, U32, 300000 + 1000 * (u64)g);
	case 186: return give(f, U32, 310000 + 1000 * (u64)g);
	case 187: return give(f, U32, 200000);
	case 188: case 189: case 190: return give(f, U32, 700000);
	default: return NOT_SUPPORTED;
	}
}

static int fill_errors(const struct gpu_state *s, nvmlFieldValue_t *f) {
	u64 corrected = s->ecc_corrected + (u64)((double)s->ecc_corrected_per_second * scenario_seconds());
	switch (f->fieldId) {
	case 1: case 2: return give(f, U32, 1);
	case 3: case 5: case 22: return give(f, U64, corrected);
	case 4: case 6: case 23: return give(f, U64, s->ecc_uncorrected);
	case 29: case 30: case 31: return NOT_SUPPORTED; /* newer than Volta */
	case 142: return scenario.mig ? NOT_SUPPORTED : give(f, U32, s->remapped_correctable);
	case 143: return scenario.mig ? NOT_SUPPORTED : give(f, U32, s->remapped_uncorrectable);
	case 144: return scenario.mig ? NOT_SUPPORTED : give(f, U32, (u64)s->remap_pending);
	case 145: return scenario.mig ? NOT_SUPPORTED : give(f, U32, (u64)s->remap_failure);
	case 230: return give(f, U32, (u64)s->recovery_action);
	case 301: case 302: return give(f, U32, 0);
	default: return NOT_SUPPORTED;
	}
}

int fill_field(struct device *d, nvmlFieldValue_t *f) {
	int g = d->gpu;
	const struct gpu_state *s = &scenario.gpu[g];
	f->latencyUsec = 1;
	if ((f->fieldId >= 138 && f->fieldId <= 139) || (f->fieldId >= 161 && f->fieldId <= 166) || (f->fieldId >= 202 && f->fieldId <= 222) || (f->fieldId >= 235 && f->fieldId <= 250))
		return fill_nvlink(g, s, f);
	if (f->fieldId >= 185 && f->fieldId <= 190) return fill_power(g, f);
	switch (f->fieldId) {
	case 74: return give(f, U64, 1000000000ull * (u64)(10 + g)); /* ns */
	case 76: return give(f, U64, 0);
	case 269: case 270: case 271: return give(f, U64, 1000000000ull * (u64)(f->fieldId - 268));
	case 82: return give(f, U32, (u64)s->temperature + 10);
	case 83: return give(f, U64, counter(1000000 + (u64)g, 300000));
	case 91: return give(f, U32, FACTS->links);
	case 94: return give(f, U32, (u64)g);
	case 193: return give(f, I32, (u64)-8ll);
	case 194: return give(f, I32, (u64)-2ll);
	case 195: case 196: return give(f, I32, 0);
	case 197: return FACTS->counts_pcie ? give(f, U32, counter(1000 * (u64)g, 1000)) : NOT_SUPPORTED;
	case 198: return FACTS->counts_pcie ? give(f, U32, counter(2000 * (u64)g, 2000)) : NOT_SUPPORTED;
	default:
		if (f->fieldId >= 173 && f->fieldId <= 183) return give(f, U32, f->fieldId - 173);
		return fill_errors(s, f);
	}
}
