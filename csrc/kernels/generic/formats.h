// What the weights are: how each format is decoded, packed, summed and unpacked. The level's simd.h and its sums come
// before.
#include "kernels/generic/dequantize.h"
#include "kernels/generic/pack.h"
#include "kernels/generic/forms.h"
#include "kernels/generic/weights_legacy.h"
#include "kernels/generic/weights_k.h"
#include "kernels/generic/weights_small.h"
#include "kernels/generic/weights_iq.h"
#include "kernels/generic/panel.h"
