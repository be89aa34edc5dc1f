#include "engine/file_pages.h"

#if defined(_WIN32)
#include "cpu/windows.h"
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace llamaq {

#if defined(_WIN32)
void will_read(const uint8_t* data, int64_t bytes) {
  WIN32_MEMORY_RANGE_ENTRY range = {const_cast<uint8_t*>(data), static_cast<SIZE_T>(bytes)};
  PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
}

// Pages that nobody has locked leave the working set when they are unlocked.
void release_pages(const uint8_t* data, int64_t bytes) {
  VirtualUnlock(const_cast<uint8_t*>(data), static_cast<SIZE_T>(bytes));
}
#else

// Pages are advised whole, those at both ends too, which hurts nobody.
static void advise(const uint8_t* data, int64_t bytes, int advice) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes) + page - 1) / page * page;
  madvise(reinterpret_cast<void*>(first), last - first, advice);
}

void will_read(const uint8_t* data, int64_t bytes) { advise(data, bytes, MADV_WILLNEED); }
void release_pages(const uint8_t* data, int64_t bytes) { advise(data, bytes, MADV_DONTNEED); }
#endif

}  // namespace llamaq
