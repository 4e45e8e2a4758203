/* What the fake driver should do, from the text file beside it (its name and ".scenario"); read whenever GPUs are counted. */
#ifndef SCENARIO_H
#define SCENARIO_H

#define GPUS_MAX 16
#define SLICES_MAX 7
#define RULES_MAX 64
#define EVENTS_MAX 64
#define PROCESSES_MAX 128

enum model { A100, H100, H200, B200, H100_PCIE };
enum effect { DELAY, HANG, DSTATE, FAIL };

struct rule {
	char call[64]; /* "*": every call */
	enum effect effect;
	int argument; /* milliseconds, or the return code */
	int gpu;      /* -1: all */
};

struct event {
	int gpu;
	unsigned long long type, data;
};

struct process {
	int gpu, pid, mib, sm; /* sm below 0: no sample of it */
};

struct gpu_state {
	int lost;  /* return code of every call, 0: well */
	int gone;  /* not enumerated any more */
	int recovery_action;
	int fabric_state, fabric_health, fabric_mask, fabric_status;
	int remap_pending, remap_failure, sram_threshold;
	unsigned long long ecc_corrected, ecc_uncorrected, ecc_corrected_per_second;
	unsigned long long remapped_correctable, remapped_uncorrectable;
	unsigned long long throttle_reasons;
	int nvlinks_down;
	int nvlink_error; /* Number of the link that answers with an error, + 1. */
	unsigned long long nvlink_replays;
	int compute_processes;
	int temperature;
};

struct scenario {
	enum model model;
	int gpus, mig, init_code, fabric_version;
	int wrap;            /* counters begin just below where they wrap */
	double tick;         /* seconds since the driver was loaded; negative: real time */
	char driver[80];
	struct gpu_state gpu[GPUS_MAX];
	struct rule rules[RULES_MAX];
	int rule_count;
	struct event events[EVENTS_MAX];
	int event_count;
	struct process processes[PROCESSES_MAX];
	int process_count;
};

extern struct scenario scenario;
void scenario_read(void);
double scenario_seconds(void);
/* Sleeps, hangs or answers as the rules say; 0: go on. */
int scenario_enter(const char *call, int gpu);

#endif
