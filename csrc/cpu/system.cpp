#include "cpu/system.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(_WIN32)
#include "cpu/windows.h"
#elif defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

namespace llamaq {

#if defined(_WIN32)
static bool allowed(WORD group, int bit) {
  DWORD_PTR process = 0, system = 0;
  // Both are zero where the process has threads in more than one group of 64 CPUs: then all are allowed.
  if (!GetProcessAffinityMask(GetCurrentProcess(), &process, &system) || process == 0) return true;
  GROUP_AFFINITY own{};
  if (!GetThreadGroupAffinity(GetCurrentThread(), &own)) return true;
  return group == own.Group && (process >> bit & 1);
}

std::vector<CpuInfo> system_cpus() {
  DWORD bytes = 0;
  GetLogicalProcessorInformationEx(RelationProcessorCore, nullptr, &bytes);
  std::vector<uint64_t> answer(bytes / 8 + 1);  // whole words, for the records' alignment
  uint8_t* const first = reinterpret_cast<uint8_t*>(answer.data());
  using Record = SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX;
  if (!bytes || !GetLogicalProcessorInformationEx(RelationProcessorCore, reinterpret_cast<Record*>(first), &bytes))
    return {};
  std::vector<CpuInfo> cpus;
  int core = 0;
  for (DWORD at = 0; at < bytes; ++core) {
    const Record& record = *reinterpret_cast<const Record*>(first + at);
    for (WORD g = 0; g < record.Processor.GroupCount; ++g) {
      const GROUP_AFFINITY& mask = record.Processor.GroupMask[g];
      for (int i = 0; i < 64; ++i)
        if (mask.Mask >> i & 1)
          cpus.push_back({64 * mask.Group + i, core, record.Processor.EfficiencyClass, allowed(mask.Group, i)});
    }
    at += record.Size;
  }
  return cpus;
}

MemoryInfo system_memory() {
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  if (!GlobalMemoryStatusEx(&status)) return {};
  // What may be committed is a limit of its own: memory and page file together.
  const DWORDLONG available =
      status.ullAvailPhys < status.ullAvailPageFile ? status.ullAvailPhys : status.ullAvailPageFile;
  return {static_cast<int64_t>(status.ullTotalPhys), static_cast<int64_t>(available)};
}
#elif defined(__APPLE__)
template <class T>
static T asked(const char* name) {
  T value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value : 0;
}

// It tells how many cores there are of each kind, not which they are, and lets nobody choose; hyper-threads are left out.
std::vector<CpuInfo> system_cpus() {
  const int cores = asked<int32_t>("hw.physicalcpu"), fast = asked<int32_t>("hw.perflevel0.physicalcpu");
  std::vector<CpuInfo> cpus;
  for (int i = 0; i < cores; ++i) cpus.push_back({i, i, fast == 0 || i < fast ? 1 : 0, true});
  return cpus;
}

MemoryInfo system_memory() {
  MemoryInfo memory;
  memory.total = asked<int64_t>("hw.memsize");
  vm_statistics64_data_t pages;
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  const mach_port_t host = mach_host_self();
  if (host_statistics64(host, HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count) == KERN_SUCCESS)
    memory.available =
        (static_cast<int64_t>(pages.free_count) + pages.inactive_count) * static_cast<int64_t>(vm_page_size);
  mach_port_deallocate(mach_task_self(), host);
  return memory;
}
#else
std::vector<CpuInfo> system_cpus() { return {}; }
MemoryInfo system_memory() { return {}; }
#endif

#if defined(__x86_64__)
std::string cpu_name() {
  uint32_t words[13] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    uint32_t* w = words + 4 * i;
    if (!__get_cpuid(0x80000002u + i, w, w + 1, w + 2, w + 3)) return "";
  }
  const std::string name = reinterpret_cast<const char*>(words);
  const size_t first = name.find_first_not_of(' ');
  return first == std::string::npos ? "" : name.substr(first, name.find_last_not_of(' ') - first + 1);
}
#elif defined(__APPLE__)
std::string cpu_name() {
  char name[256] = {};
  size_t size = sizeof name - 1;
  return sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? name : "";
}
#else
std::string cpu_name() { return ""; }
#endif

}  // namespace llamaq
