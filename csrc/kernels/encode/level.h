// The searches of a level, in the order in which they build on one another; its simd.h comes before.
#include "kernels/encode/lanes.h"
#include "kernels/encode/levels.h"
#include "kernels/encode/scale.h"
#include "kernels/encode/legacy.h"
#include "kernels/encode/affine.h"
#include "kernels/encode/super_affine.h"
#include "kernels/encode/super_scale.h"
#include "kernels/encode/entries.h"
