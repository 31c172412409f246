// The list of types. Adding one: its struct in a *_blocks.h, its name here, its row in kernels/quant_tensor.py.
#pragma once

#include "dense.h"
#include "iqk_blocks.h"
#include "k_blocks.h"
#include "kt_blocks.h"
#include "legacy_blocks.h"

#define ESP_DENSE_TYPES(X) X(F32) X(F16) X(BF16)
#define ESP_LEGACY_TYPES(X) X(Q8_0) X(Q6_0)
#define ESP_K_TYPES(X) X(Q4_K) X(Q5_K) X(Q6_K)
#define ESP_IQ_TYPES(X) X(IQ3_S)
#define ESP_IQK_TYPES(X)                                                                        \
    X(IQ2_K) X(IQ3_K) X(IQ4_K) X(IQ4_KS) X(IQ5_K) X(IQ6_K) X(IQ2_KS) X(IQ2_KL) X(IQ3_KS)          \
    X(IQ4_KSS) X(IQ5_KS) X(Q8_KV)
#define ESP_KT_TYPES(X) X(IQ1_KT) X(IQ2_KT) X(IQ3_KT) X(IQ4_KT) X(IQ2_KT_V1) X(IQ3_KT_V1) X(IQ4_KT_V1)
#define ESP_QUANT_TYPES(X) ESP_LEGACY_TYPES(X) ESP_K_TYPES(X) ESP_IQ_TYPES(X) ESP_IQK_TYPES(X) ESP_KT_TYPES(X)

namespace espalier {

enum class TensorType : int32_t {
#define ESP_ENUMERATOR(name) name,
    ESP_DENSE_TYPES(ESP_ENUMERATOR) ESP_QUANT_TYPES(ESP_ENUMERATOR)
#undef ESP_ENUMERATOR
};

// Bytes of a row of n weights, n whole blocks.
template <class T>
ESP_FN int64_t row_bytes(int64_t n) {
    return T::kHeaderBytes + n / T::kBlockWeights * T::kBlockBytes;
}

// 32-block b of a row.
template <class T>
ESP_FN void decode_block32(const uint8_t* row, int64_t b, Block32& out) {
    constexpr int kPerBlock = T::kBlockWeights / 32;
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
