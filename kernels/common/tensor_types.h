// The list of types. Adding one: its struct in a *_blocks.h, its name here, its row in kernels/quant_tensor.py.
#pragma once

#include "dense.h"
#include "fp4_blocks.h"
#include "iq1_blocks.h"
#include "iq_blocks.h"
#include "iqk_blocks.h"
#include "k_blocks.h"
#include "kt_blocks.h"
#include "legacy_blocks.h"
#include "ternary_blocks.h"

#define ESP_DENSE_TYPES(X) X(F32) X(F16) X(BF16)
#define ESP_LEGACY_TYPES(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q6_0)
#define ESP_K_TYPES(X) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K)
#define ESP_IQ_TYPES(X) \
    X(IQ1_S) X(IQ1_M) X(IQ1_S_32) X(IQ1_M_32) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S) X(IQ4_NL) X(IQ4_XS)
#define ESP_TERNARY_TYPES(X) X(TQ1_0) X(TQ2_0)
#define ESP_FP4_TYPES(X) X(MXFP4)
#define ESP_IQK_TYPES(X)                                                                        \
    X(IQ2_K) X(IQ3_K) X(IQ4_K) X(IQ4_KS) X(IQ5_K) X(IQ6_K) X(IQ2_KS) X(IQ2_KL) X(IQ3_KS)          \
    X(IQ4_KSS) X(IQ5_KS) X(Q8_KV)
#define ESP_KT_TYPES(X) X(IQ1_KT) X(IQ2_KT) X(IQ3_KT) X(IQ4_KT) X(IQ2_KT_V1) X(IQ3_KT_V1) X(IQ4_KT_V1)
#define ESP_QUANT_TYPES(X)                                                                           \
    ESP_LEGACY_TYPES(X) ESP_K_TYPES(X) ESP_IQ_TYPES(X) ESP_TERNARY_TYPES(X) ESP_FP4_TYPES(X)         \
    ESP_IQK_TYPES(X) ESP_KT_TYPES(X)

namespace espalier {

enum class TensorType : int32_t {
#define ESP_ENUMERATOR(name) name,
    ESP_DENSE_TYPES(ESP_ENUMERATOR) ESP_QUANT_TYPES(ESP_ENUMERATOR)
#undef ESP_ENUMERATOR
};

// What the length of a row is a multiple of.
template <class T>
constexpr int kRowMultiple = T::kTailNibbles == 0 ? T::kBlockWeights : 32;

// Where the tail of a row of n weights begins; the end of a row without one.
template <class T>
ESP_FN int64_t tail_start(int64_t n) {
    return T::kHeaderBytes + n / T::kBlockWeights * T::kBlockBytes;
}

// Bytes of a row of n weights, a multiple of kRowMultiple.
template <class T>
ESP_FN int64_t row_bytes(int64_t n) {
    if constexpr (T::kTailNibbles == 0) return tail_start<T>(n);
    return (tail_start<T>(n) + (n % T::kBlockWeights / 32 * T::kTailNibbles + 1) / 2 + 3) / 4 * 4;
}

// 32-block b of a row of n weights.
template <class T>
ESP_FN void decode_block32(const uint8_t* row, int64_t n, int64_t b, Block32& out) {
    constexpr int kPerBlock = T::kBlockWeights / 32;
    if constexpr (T::kTailNibbles != 0) {
        const int64_t first_of_tail = n / T::kBlockWeights * kPerBlock;
        if (b >= first_of_tail) {
            T::decode_tail(row + tail_start<T>(n), int(n % T::kBlockWeights / 32), int(b - first_of_tail), out);
            return;
        }
    }
    T::decode(row + T::kHeaderBytes + b / kPerBlock * T::kBlockBytes, int(b % kPerBlock), out);
}

#if !defined(__CUDACC_RTC__)
constexpr const char* kTensorTypeNames[] = {
#define ESP_NAME(name) #name,
    ESP_DENSE_TYPES(ESP_NAME) ESP_QUANT_TYPES(ESP_NAME)
#undef ESP_NAME
};
constexpr int kTensorTypeCount = sizeof(kTensorTypeNames) / sizeof(kTensorTypeNames[0]);

// The type of that name in `type`; false where there is none.
inline bool tensor_type_from_name(const char* name, TensorType& type) {
    for (int i = 0; i < kTensorTypeCount; ++i) {
        if (__builtin_strcmp(name, kTensorTypeNames[i]) == 0) {
            type = TensorType(i);
            return true;
        }
    }
    return false;
}
#endif

}  // namespace espalier
