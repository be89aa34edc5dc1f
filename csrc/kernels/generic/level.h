// The rest of a level's texts, in the order in which they build on one another; its panel_tile (and peak.h) come before.
#include "kernels/generic/matmul.h"
#include "kernels/generic/matmul_float.h"
#include "kernels/generic/math.h"
#include "kernels/generic/rows.h"
#include "kernels/generic/cache.h"
#include "kernels/generic/attention.h"
#include "kernels/generic/probe.h"
#include "kernels/generic/entries.h"
