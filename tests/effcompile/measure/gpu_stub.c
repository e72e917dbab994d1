/* A GPU that is not there: as much of NVML and of the CUDA driver as is asked without a context.
 * NVML_FAULTS="energy=4,init=9" makes calls answer with NVML's error codes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int fault(const char *call)
{
    const char *set = getenv("NVML_FAULTS");
    char faults[256], key[64], *found;
    snprintf(faults, sizeof faults, ",%s", set ? set : "");
    snprintf(key, sizeof key, ",%s=", call);
    found = strstr(faults, key);
    return found ? atoi(found + strlen(key)) : 0;
}

int nvmlInitWithFlags(unsigned flags) { return fault("init"); }
int nvmlInit_v2(void) { return fault("init"); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return fault("count"); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = (void *)1; return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **gpu) { *gpu = (void *)1; return fault("uuid"); }
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned n) { snprintf(text, n, "GPU-0"); return 0; }
int nvmlDeviceGetName(void *gpu, char *text, unsigned n) { snprintf(text, n, "Stub"); return fault("name"); }
int nvmlSystemGetDriverVersion(char *text, unsigned n) { snprintf(text, n, "580"); return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *n, void *found) { *n = 0; return fault("processes"); }

int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *energy_mj)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    /* 70 W in steps of 100 ms; "stuck" stands still. */
    *energy_mj = fault("stuck") ? 1 : (now.tv_sec * 10ull + now.tv_nsec / 100000000) * 7000;
    return fault("energy");
}

int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *text, int n, int device) { snprintf(text, n, "Stub"); return 0; }
int cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 0, 16); return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1024;
    return 0;
}
