// What Windows and macOS tell only by function calls. Linux tells it in /proc and /sys, which llamaq.engine reads.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

namespace llamaq {

struct CpuInfo {
  int number;
  int core;   // threads of one core share it
  int speed;  // the fastest kind of core has the greatest
  bool allowed;
};

// All CPUs that are online; none where the system does not tell.
std::vector<CpuInfo> system_cpus();

struct MemoryInfo {
  int64_t total = 0, available = 0;  // bytes; 0: the system does not tell
};
MemoryInfo system_memory();

// The processor's name as it tells it itself, or the system tells it; or "".
std::string cpu_name();

}  // namespace llamaq
