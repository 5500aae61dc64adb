/* A stand-in libnvidia-ml.so.1: cc -shared -fPIC -o libnvidia-ml.so.1 standin_nvml.c
 * It answers from the file that STANDIN_NVML names, one reading a line:
 *     init_error 9                  nvmlInit answers with that error
 *     hang 1                        nvmlInit never answers
 *     count 2                       GPUs
 *     driver 550.54.15
 *     0 temp 67                     a reading of GPU 0; what is not named is that of a healthy H100
 *     1 lost 1                      every call on GPU 1 answers GPU_IS_LOST
 *     0 unsupported ecc,power       those readings answer NOT_SUPPORTED
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int R;
typedef struct dev *D;
enum { OK = 0, UNINIT = 1, INVALID = 2, NOTSUP = 3, SMALL = 7, LOST = 15 };
static int inited;

static int look(const char *who, const char *key, char *out, size_t n) {
  FILE *f = fopen(getenv("STANDIN_NVML") ? getenv("STANDIN_NVML") : "", "r");
  char w[64], k[64], v[192], line[400];
  int hit = 0;
  if (!f) return 0;
  while (fgets(line, sizeof line, f)) {
    int found = who ? sscanf(line, "%63s %63s %191[^\n]", w, k, v) == 3 && !strcmp(w, who)
                    : sscanf(line, "%63s %191[^\n]", k, v) == 2;
    if (found && !strcmp(k, key)) { snprintf(out, n, "%s", v); hit = 1; }
  }
  fclose(f);
  return hit;
}
static long num(const char *who, const char *key, long dflt) {
  char b[192];
  return look(who, key, b, sizeof b) ? atol(b) : dflt;
}
static int idx(D d) { return (int)((size_t)d - 1); }
static R pre(D d, const char *what, char *w) {
  char u[192];
  if (!inited) return UNINIT;
  if (!d || idx(d) >= num(NULL, "count", 1)) return INVALID;
  sprintf(w, "%d", idx(d));
  if (num(w, "lost", 0)) return LOST;
  return look(w, "unsupported", u, sizeof u) && strstr(u, what) ? NOTSUP : OK;
}
#define ASK(d, what) char w[16]; { R r = pre(d, what, w); if (r) return r; }

R nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  while (num(NULL, "hang", 0)) sleep(1);
  R e = (R)num(NULL, "init_error", 0);
  if (!e) inited++;
  return e;
}
R nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
R nvmlShutdown(void) { inited--; return OK; }
const char *nvmlErrorString(R r) {
  return r == LOST ? "GPU is lost" : r == NOTSUP ? "Not Supported" : r == 9 ? "Driver Not Loaded" : r == INVALID ? "Invalid Argument" : "Unknown Error";
}
R nvmlSystemGetDriverVersion(char *b, unsigned n) {
  char v[192] = "550.54.15";
  look(NULL, "driver", v, sizeof v);
  snprintf(b, n, "%s", v);
  return OK;
}
R nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)num(NULL, "count", 1); return OK; }
R nvmlDeviceGetHandleByIndex_v2(unsigned i, D *d) {
  char w[16];
  sprintf(w, "%u", i);
  if (num(w, "no_handle", 0)) return LOST;
  *d = (D)(size_t)(i + 1);
  return OK;
}
R nvmlDeviceGetName(D d, char *b, unsigned n) {
  ASK(d, "name")
  char v[192] = "NVIDIA H100 80GB HBM3";
  look(w, "name", v, sizeof v);
  snprintf(b, n, "%s", v);
  return OK;
}
R nvmlDeviceGetUUID(D d, char *b, unsigned n) { ASK(d, "uuid") snprintf(b, n, "GPU-00000000-0000-0000-0000-%012d", idx(d)); return OK; }
R nvmlDeviceGetVbiosVersion(D d, char *b, unsigned n) {
  ASK(d, "vbios")
  char v[192] = "96.00.74.00.0D";
  look(w, "vbios", v, sizeof v);
  snprintf(b, n, "%s", v);
  return OK;
}
R nvmlDeviceGetTemperature(D d, int s, unsigned *t) { (void)s; ASK(d, "temp") *t = (unsigned)num(w, "temp", 34); return OK; }
R nvmlDeviceGetCurrentClocksThrottleReasons(D d, unsigned long long *m) { ASK(d, "throttle") *m = (unsigned long long)num(w, "throttle", 1); return OK; }
R nvmlDeviceGetTotalEccErrors(D d, int type, int counter, unsigned long long *n) {
  (void)counter;
  ASK(d, "ecc")
  *n = (unsigned long long)num(w, type ? "uncorrected" : "corrected", 0);
  return OK;
}
R nvmlDeviceGetRemappedRows(D d, unsigned *c, unsigned *u, unsigned *p, unsigned *f) {
  ASK(d, "remap")
  *c = *u = 0;
  *p = (unsigned)num(w, "remap_pending", 0);
  *f = (unsigned)num(w, "remap_failed", 0);
  return OK;
}
R nvmlDeviceGetRetiredPagesPendingStatus(D d, unsigned *p) { ASK(d, "retired") *p = (unsigned)num(w, "retired_pending", 0); return OK; }
R nvmlDeviceGetNvLinkState(D d, unsigned link, unsigned *up) {
  ASK(d, "nvlink")
  if ((long)link >= num(w, "nvlinks", 18)) return INVALID;
  *up = (long)link != num(w, "nvlink_down", -1);
  return OK;
}
R nvmlDeviceGetCurrPcieLinkWidth(D d, unsigned *n) { ASK(d, "pcie") *n = (unsigned)num(w, "width", 16); return OK; }
R nvmlDeviceGetMaxPcieLinkWidth(D d, unsigned *n) { ASK(d, "pcie") *n = (unsigned)num(w, "max_width", 16); return OK; }
R nvmlDeviceGetPcieReplayCounter(D d, unsigned *n) { ASK(d, "replay") *n = (unsigned)num(w, "replays", 0); return OK; }
typedef struct { unsigned long long total, free, used; } Mem;
R nvmlDeviceGetMemoryInfo(D d, Mem *m) {
  ASK(d, "memory")
  m->total = 81559ull << 20;
  m->used = (unsigned long long)num(w, "used", 512) << 20;
  m->free = m->total - m->used;
  return OK;
}
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;
R nvmlDeviceGetComputeRunningProcesses_v3(D d, unsigned *n, Process *p) {
  ASK(d, "processes")
  unsigned room = *n;
  *n = num(w, "pid", 0) ? 1 : 0;
  if (room < *n || (*n && !p)) return SMALL;
  if (*n) { p->pid = (unsigned)num(w, "pid", 0); p->used = ~0ull; p->gi = p->ci = 0; }
  return OK;
}
