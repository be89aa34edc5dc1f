#include "cpu/topology.h"

#include <stdio.h>

#include <algorithm>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace llamaq {

// CPUs that cgroup v2 grants: "quota period" in microseconds, or "max"; 0 where nothing limits.
static int cgroup_cpus() {
  FILE* file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (!file) return 0;
  long quota = 0, period = 0;
  const int fields = fscanf(file, "%ld %ld", &quota, &period);
  fclose(file);
  if (fields != 2 || quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::max(1l, (quota + period - 1) / period));
}

int available_cpus() {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) cpus = CPU_COUNT(&mask);
  if (const int quota = cgroup_cpus()) cpus = std::min(cpus, quota);
#endif
  return std::max(cpus, 1);
}

}  // namespace llamaq
