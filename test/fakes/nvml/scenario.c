#define _GNU_SOURCE
#include "scenario.h"
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

struct scenario scenario;
static int events_taken_over;

static double now(void) {
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static double loaded_at;

double scenario_seconds(void) { return scenario.tick >= 0 ? scenario.tick : now() - loaded_at; }

static void defaults(void) {
	memset(&scenario, 0, sizeof scenario);
	scenario.model = H100;
	scenario.gpus = 8;
	scenario.tick = -1;
	scenario.fabric_version = 3;
	strcpy(scenario.driver, "570.86.15");
	for (int g = 0; g < GPUS_MAX; g++) {
		scenario.gpu[g].fabric_state = 3;
		scenario.gpu[g].fabric_health = 1;
		scenario.gpu[g].fabric_mask = 0x1000 | 0x100 | 0xaa; /* partition assigned, configured, no fault */
		scenario.gpu[g].temperature = 40 + g;
	}
}

static void add_rule(const char *call, enum effect effect, int argument, int gpu) {
	if (scenario.rule_count == RULES_MAX) return;
	struct rule *rule = &scenario.rules[scenario.rule_count++];
	snprintf(rule->call, sizeof rule->call, "%s", call);
	rule->effect = effect;
	rule->argument = argument;
	rule->gpu = gpu;
}

static void read_gpu_line(const char *key, int g, long long a, long long b) {
	if (g < 0 || g >= GPUS_MAX) return;
	struct gpu_state *gpu = &scenario.gpu[g];
	if (!strcmp(key, "lost")) gpu->lost = a ? (int)a : 15;
	else if (!strcmp(key, "gone")) gpu->gone = 1;
	else if (!strcmp(key, "recovery_action")) gpu->recovery_action = (int)a;
	else if (!strcmp(key, "fabric")) gpu->fabric_state = (int)a, gpu->fabric_health = (int)b;
	else if (!strcmp(key, "fabric_mask")) gpu->fabric_mask = (int)a;
	else if (!strcmp(key, "fabric_status")) gpu->fabric_status = (int)a;
	else if (!strcmp(key, "ecc_corrected")) gpu->ecc_corrected = (unsigned long long)a;
	else if (!strcmp(key, "ecc_storm")) gpu->ecc_corrected_per_second = (unsigned long long)a;
	else if (!strcmp(key, "ecc_uncorrected")) gpu->ecc_uncorrected = (unsigned long long)a;
	else if (!strcmp(key, "remapped")) gpu->remapped_correctable = (unsigned long long)a, gpu->remapped_uncorrectable = (unsigned long long)b;
	else if (!strcmp(key, "remap_pending")) gpu->remap_pending = (int)a;
	else if (!strcmp(key, "remap_failure")) gpu->remap_failure = (int)a;
	else if (!strcmp(key, "sram_threshold")) gpu->sram_threshold = (int)a;
	else if (!strcmp(key, "throttle")) gpu->throttle_reasons = (unsigned long long)a;
	else if (!strcmp(key, "nvlinks_down")) gpu->nvlinks_down = (int)a;
	else if (!strcmp(key, "nvlink_error")) gpu->nvlink_error = (int)a + 1;
	else if (!strcmp(key, "nvlink_replays")) gpu->nvlink_replays = (unsigned long long)a;
	else if (!strcmp(key, "processes")) gpu->compute_processes = (int)a;
	else if (!strcmp(key, "temperature")) gpu->temperature = (int)a;
	else {
		fprintf(stderr, "fake nvml: there is no %s\n", key);
		abort();
	}
}

static void read_line(char *line) {
	char key[64] = "", text[80] = "";
	long long a = 0, b = 0;
	int g = -1;
	if (sscanf(line, "%63s", key) != 1 || key[0] == '#') return;
	if (!strcmp(key, "model")) {
		sscanf(line, "%*s %79s", text);
		scenario.model = !strcmp(text, "a100") ? A100 : !strcmp(text, "h200") ? H200 : !strcmp(text, "b200") ? B200 : !strcmp(text, "h100pcie") ? H100_PCIE : H100;
	} else if (!strcmp(key, "gpus")) sscanf(line, "%*s %d", &scenario.gpus);
	else if (!strcmp(key, "mig")) sscanf(line, "%*s %d", &scenario.mig);
	else if (!strcmp(key, "init")) sscanf(line, "%*s %d", &scenario.init_code);
	else if (!strcmp(key, "fabric_version")) sscanf(line, "%*s %d", &scenario.fabric_version);
	else if (!strcmp(key, "wrap")) sscanf(line, "%*s %d", &scenario.wrap);
	else if (!strcmp(key, "tick")) sscanf(line, "%*s %lf", &scenario.tick);
	else if (!strcmp(key, "driver")) sscanf(line, "%*s %79s", scenario.driver);
	else if (!strcmp(key, "delay")) sscanf(line, "%*s %79s %lld %d", text, &a, &g), add_rule(text, DELAY, (int)a, g);
	else if (!strcmp(key, "hang")) sscanf(line, "%*s %79s %d", text, &g), add_rule(text, HANG, 0, g);
	else if (!strcmp(key, "dstate")) sscanf(line, "%*s %79s %d", text, &g), add_rule(text, DSTATE, 0, g);
	else if (!strcmp(key, "fail")) sscanf(line, "%*s %79s %lld %d", text, &a, &g), add_rule(text, FAIL, (int)a, g);
	else if (!strcmp(key, "process")) {
		if (scenario.process_count == PROCESSES_MAX) return;
		struct process *process = &scenario.processes[scenario.process_count++];
		sscanf(line, "%*s %d %d %d %d", &process->gpu, &process->pid, &process->mib, &process->sm);
	} else if (!strcmp(key, "event")) {
		if (scenario.event_count == EVENTS_MAX) return;
		struct event *event = &scenario.events[scenario.event_count++];
		sscanf(line, "%*s %d %lli %lli", &event->gpu, (long long *)&event->type, (long long *)&event->data);
	} else {
		sscanf(line, "%*s %d %lli %lli", &g, &a, &b);
		read_gpu_line(key, g, a, b);
	}
}

void scenario_read(void) {
	char path[4096];
	Dl_info own;
	if (!dladdr((void *)scenario_read, &own)) abort();
	snprintf(path, sizeof path, "%s.scenario", own.dli_fname);
	if (loaded_at == 0) loaded_at = now();
	defaults();
	FILE *file = fopen(path, "r");
	if (!file) return;
	char line[256];
	while (fgets(line, sizeof line, file)) read_line(line);
	fclose(file);
	/* Each event comes once, however often the file is read. */
	int left = scenario.event_count - events_taken_over;
	if (left < 0) left = 0, events_taken_over = 0;
	memmove(scenario.events, scenario.events + events_taken_over, (size_t)left * sizeof scenario.events[0]);
	events_taken_over = scenario.event_count;
	scenario.event_count = left;
}

/* The parent of vfork waits uninterruptibly (state D) until its child ends, as in a driver that does not answer. */
static void wait_in_d(void) {
	if (vfork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) pause();
	}
}

int scenario_enter(const char *call, int gpu) {
	for (int i = 0; i < scenario.rule_count; i++) {
		const struct rule *rule = &scenario.rules[i];
		if (strcmp(rule->call, "*") && strcmp(rule->call, call)) continue;
		if (rule->gpu >= 0 && rule->gpu != gpu) continue;
		if (rule->effect == FAIL) return rule->argument;
		if (rule->effect == DELAY) usleep((useconds_t)rule->argument * 1000);
		if (rule->effect == HANG) for (;;) pause();
		if (rule->effect == DSTATE) wait_in_d();
	}
	return gpu >= 0 && gpu < GPUS_MAX ? scenario.gpu[gpu].lost : 0;
}
