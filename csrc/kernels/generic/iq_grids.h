// Codebooks of IQ1, IQ2 and IQ3: kIQ1S[2048][8], kIQ2XXS[256][8], kIQ2XS[512][8], kIQ2S[1024][8], kIQ3XXS[256][4] and
// kIQ3S[512][4] of int8_t, and kIQ1SCodes[2048] and so on (weights_iq.h) of uint32_t. The build writes them with
// tools/make_grids_header.py from src/llamaq/formats/grids.py.
#pragma once

#include "iq_grids.inc"
