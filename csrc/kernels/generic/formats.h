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

// Formats whose activations are quantized, too.
// clang-format off
#define LLAMAQ_QUANTIZED_LIST(X) \
  X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) \
  X(Q1_0) X(Q2_0) X(TQ1_0) X(TQ2_0) X(MXFP4) X(NVFP4) \
  X(IQ1_S) X(IQ1_M) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S)
// clang-format on
