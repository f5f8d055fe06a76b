// Conversions of whole arrays.
typedef unsigned u32;
typedef unsigned short u16;
extern "C" __global__ void to_bf16(u16* out, const float* in, int count) {
    for (int i = 0; i < count; ++i) asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out[i]) : "f"(in[i]));
}
extern "C" __global__ void to_f16(u16* out, const float* in, int count) {
    for (int i = 0; i < count; ++i) asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out[i]) : "f"(in[i]));
}
extern "C" __global__ void from_bf16(float* out, const u16* in, int count) {
    for (int i = 0; i < count; ++i) asm("cvt.f32.bf16 %0, %1;" : "=f"(out[i]) : "h"(in[i]));
}
extern "C" __global__ void from_f16(float* out, const u16* in, int count) {
    for (int i = 0; i < count; ++i) asm("cvt.f32.f16 %0, %1;" : "=f"(out[i]) : "h"(in[i]));
}
