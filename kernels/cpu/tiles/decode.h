// Every type's 32-blocks as vectors: decode(T, tile, unit, block of the unit, out).
#pragma once

#include "cpu/tiles/decode_fp4.h"
#include "cpu/tiles/decode_iq.h"
#include "cpu/tiles/decode_iq1.h"
#include "cpu/tiles/decode_iqk.h"
#include "cpu/tiles/decode_k.h"
#include "cpu/tiles/decode_kt.h"
#include "cpu/tiles/decode_legacy.h"
#include "cpu/tiles/decode_ternary.h"
