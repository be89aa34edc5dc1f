// How many threads are worth starting here.
#pragma once

namespace llamaq {

// CPUs that the affinity mask and the cgroup quota leave to this process (at least 1).
int available_cpus();

}  // namespace llamaq
