// GGUF blocks to binary32: void f(const uint8_t* src, float* dst, int64_t n), n whole blocks. The specification is
// src/llamaq/formats, which these functions equal bit for bit; layouts are ggml's.
#pragma once

#include "kernels/generic/dequantize_legacy.h"
#include "kernels/generic/dequantize_k.h"
#include "kernels/generic/dequantize_iq.h"
#include "kernels/generic/dequantize_iq4.h"
#include "kernels/generic/dequantize_small.h"

// X(name of the format, function)
#define LLAMAQ_DEQUANTIZE_LIST(X)                     \
  X(F32, dequantize_f32)                              \
  X(F16, dequantize_f16)                              \
  X(BF16, dequantize_bf16)                            \
  X(Q4_0, dequantize_q4_0)                            \
  X(Q4_1, dequantize_q4_1)                            \
  X(Q5_0, dequantize_q5_0)                            \
  X(Q5_1, dequantize_q5_1)                            \
  X(Q8_0, dequantize_q8_0)                            \
  X(Q2_K, dequantize_q2_k)                            \
  X(Q3_K, dequantize_q3_k)                            \
  X(Q4_K, dequantize_q4_k)                            \
  X(Q5_K, dequantize_q5_k)                            \
  X(Q6_K, dequantize_q6_k)                            \
  X(IQ4_NL, dequantize_iq4_nl)                        \
  X(IQ4_XS, dequantize_iq4_xs)                        \
  X(Q1_0, dequantize_q1_0)                            \
  X(Q2_0, dequantize_q2_0)                            \
  X(TQ1_0, dequantize_tq1_0)                          \
  X(TQ2_0, dequantize_tq2_0)                          \
  X(MXFP4, dequantize_mxfp4)                          \
  X(NVFP4, dequantize_nvfp4)                          \
  X(IQ1_S, codebook::dequantize<codebook::IQ1_S>)     \
  X(IQ1_M, codebook::dequantize<codebook::IQ1_M>)     \
  X(IQ2_XXS, codebook::dequantize<codebook::IQ2_XXS>) \
  X(IQ2_XS, codebook::dequantize<codebook::IQ2_XS>)   \
  X(IQ2_S, codebook::dequantize<codebook::IQ2_S>)     \
  X(IQ3_XXS, codebook::dequantize<codebook::IQ3_XXS>) \
  X(IQ3_S, codebook::dequantize<codebook::IQ3_S>)
