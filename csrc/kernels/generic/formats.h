// What the weights are: how each format is packed, decoded, summed and unpacked. The level's simd.h and its sums come
// before.
#include "kernels/generic/dequantize.h"
#include "kernels/generic/pack.h"
#include "kernels/generic/forms.h"
#include "kernels/generic/weights_legacy.h"
#include "kernels/generic/weights_k.h"
#include "kernels/generic/panel.h"
