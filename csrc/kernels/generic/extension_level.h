// The rest of the texts of a level that extends another; its panel_tile (and peak.h) come before.
#include "kernels/generic/outputs.h"
#include "kernels/generic/fetch.h"
#include "kernels/generic/direct.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/probe.h"
#include "kernels/generic/extension.h"
