// The functions that CUDA knows without a header. Those of libm are right to less than CUDA's own error bounds.
ATTN_SIM_INLINE float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
ATTN_SIM_INLINE float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
ATTN_SIM_INLINE int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
ATTN_SIM_INLINE unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
ATTN_SIM_INLINE double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }
ATTN_SIM_INLINE long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }

#define ATTN_SIM_MATH_1(NAME) \
    ATTN_SIM_INLINE float NAME##f(float x) { return __builtin_##NAME##f(x); } \
    ATTN_SIM_INLINE double NAME(double x) { return __builtin_##NAME(x); } \
    ATTN_SIM_INLINE float NAME(float x) { return __builtin_##NAME##f(x); }
ATTN_SIM_MATH_1(exp)
ATTN_SIM_MATH_1(exp2)
ATTN_SIM_MATH_1(expm1)
ATTN_SIM_MATH_1(log)
ATTN_SIM_MATH_1(log2)
ATTN_SIM_MATH_1(log10)
ATTN_SIM_MATH_1(log1p)
ATTN_SIM_MATH_1(sin)
ATTN_SIM_MATH_1(cos)
ATTN_SIM_MATH_1(tan)
ATTN_SIM_MATH_1(asin)
ATTN_SIM_MATH_1(acos)
ATTN_SIM_MATH_1(atan)
ATTN_SIM_MATH_1(sinh)
ATTN_SIM_MATH_1(cosh)
ATTN_SIM_MATH_1(tanh)
ATTN_SIM_MATH_1(sqrt)
ATTN_SIM_MATH_1(cbrt)
ATTN_SIM_MATH_1(erf)
ATTN_SIM_MATH_1(erfc)
ATTN_SIM_MATH_1(floor)
ATTN_SIM_MATH_1(ceil)
ATTN_SIM_MATH_1(trunc)
ATTN_SIM_MATH_1(round)
ATTN_SIM_MATH_1(rint)
ATTN_SIM_MATH_1(nearbyint)
ATTN_SIM_MATH_1(fabs)
#define ATTN_SIM_MATH_2(NAME) \
    ATTN_SIM_INLINE float NAME##f(float x, float y) { return __builtin_##NAME##f(x, y); } \
    ATTN_SIM_INLINE double NAME(double x, double y) { return __builtin_##NAME(x, y); } \
    ATTN_SIM_INLINE float NAME(float x, float y) { return __builtin_##NAME##f(x, y); }
ATTN_SIM_MATH_2(pow)
ATTN_SIM_MATH_2(fmod)
ATTN_SIM_MATH_2(atan2)
ATTN_SIM_MATH_2(copysign)
ATTN_SIM_MATH_2(hypot)
ATTN_SIM_MATH_2(fdim)

// PTX max and min: a number wins over a NaN, and +0 is greater than -0.
ATTN_SIM_INLINE float fmaxf(float x, float y) {
    if (x != x) return y != y ? __int_as_float(0x7fffffff) : y;
    if (x == y) return __builtin_signbit(x) ? y : x;
    return x < y ? y : x;
}
ATTN_SIM_INLINE float fminf(float x, float y) {
    if (x != x) return y != y ? __int_as_float(0x7fffffff) : y;
    if (x == y) return __builtin_signbit(x) ? x : y;
    return y < x ? y : x;
}
ATTN_SIM_INLINE double fmax(double x, double y) { return __builtin_fmax(x, y); }
ATTN_SIM_INLINE double fmin(double x, double y) { return __builtin_fmin(x, y); }
ATTN_SIM_INLINE float fmax(float x, float y) { return fmaxf(x, y); }
ATTN_SIM_INLINE float fmin(float x, float y) { return fminf(x, y); }
ATTN_SIM_INLINE float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
ATTN_SIM_INLINE float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
ATTN_SIM_INLINE double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
ATTN_SIM_INLINE float exp10f(float x) { return (float)__builtin_pow(10.0, x); }
ATTN_SIM_INLINE float rsqrtf(float x) { return (float)(1.0 / __builtin_sqrt((double)x)); }
ATTN_SIM_INLINE float rcbrtf(float x) { return (float)(1.0 / __builtin_cbrt((double)x)); }
ATTN_SIM_INLINE double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
ATTN_SIM_INLINE float ldexpf(float x, int y) { return __builtin_ldexpf(x, y); }
ATTN_SIM_INLINE float scalbnf(float x, int y) { return __builtin_scalbnf(x, y); }
ATTN_SIM_INLINE long lrintf(float x) { return __builtin_lrintf(x); }
ATTN_SIM_INLINE void sincosf(float x, float* sine, float* cosine) { *sine = __builtin_sinf(x), *cosine = __builtin_cosf(x); }
ATTN_SIM_INLINE float normcdff(float x) { return (float)(0.5 * __builtin_erfc(-(double)x * 0.70710678118654752)); }

// Intrinsics: fast ones within their error bounds, the others rounded as they say.
ATTN_SIM_INLINE float __expf(float x) { return __builtin_expf(x); }
ATTN_SIM_INLINE float __exp10f(float x) { return exp10f(x); }
ATTN_SIM_INLINE float __logf(float x) { return __builtin_logf(x); }
ATTN_SIM_INLINE float __log2f(float x) { return __builtin_log2f(x); }
ATTN_SIM_INLINE float __log10f(float x) { return __builtin_log10f(x); }
ATTN_SIM_INLINE float __sinf(float x) { return __builtin_sinf(x); }
ATTN_SIM_INLINE float __cosf(float x) { return __builtin_cosf(x); }
ATTN_SIM_INLINE float __powf(float x, float y) { return __builtin_powf(x, y); }
ATTN_SIM_INLINE float __fdividef(float x, float y) { return x / y; }
ATTN_SIM_INLINE float __frcp_rn(float x) { return 1.f / x; }
ATTN_SIM_INLINE float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
ATTN_SIM_INLINE float __frsqrt_rn(float x) { return rsqrtf(x); }
ATTN_SIM_INLINE float __fadd_rn(float x, float y) { return x + y; }
ATTN_SIM_INLINE float __fsub_rn(float x, float y) { return x - y; }
ATTN_SIM_INLINE float __fmul_rn(float x, float y) { return x * y; }
ATTN_SIM_INLINE float __fdiv_rn(float x, float y) { return x / y; }
ATTN_SIM_INLINE float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
ATTN_SIM_INLINE float __saturatef(float x) { return x > 0.f ? x < 1.f ? x : 1.f : 0.f; }
ATTN_SIM_INLINE int __float2int_rn(float x) { return (int)__builtin_lrintf(x); }
ATTN_SIM_INLINE int __float2int_rz(float x) { return (int)x; }
ATTN_SIM_INLINE int __float2int_rd(float x) { return (int)__builtin_floorf(x); }
ATTN_SIM_INLINE int __float2int_ru(float x) { return (int)__builtin_ceilf(x); }
ATTN_SIM_INLINE float __int2float_rn(int x) { return (float)x; }
ATTN_SIM_INLINE float __uint2float_rn(unsigned x) { return (float)x; }

template <class T> ATTN_SIM_INLINE bool isnan(T x) { return __builtin_isnan(x); }
template <class T> ATTN_SIM_INLINE bool isinf(T x) { return __builtin_isinf(x); }
template <class T> ATTN_SIM_INLINE bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T> ATTN_SIM_INLINE bool signbit(T x) { return __builtin_signbit(x); }

#define ATTN_SIM_MIN_MAX(RESULT, A, B) \
    ATTN_SIM_INLINE RESULT min(A x, B y) { return (RESULT)x < (RESULT)y ? (RESULT)x : (RESULT)y; } \
    ATTN_SIM_INLINE RESULT max(A x, B y) { return (RESULT)x < (RESULT)y ? (RESULT)y : (RESULT)x; }
ATTN_SIM_MIN_MAX(int, int, int)
ATTN_SIM_MIN_MAX(unsigned, unsigned, unsigned)
ATTN_SIM_MIN_MAX(unsigned, int, unsigned)
ATTN_SIM_MIN_MAX(unsigned, unsigned, int)
ATTN_SIM_MIN_MAX(long, long, long)
ATTN_SIM_MIN_MAX(unsigned long, unsigned long, unsigned long)
ATTN_SIM_MIN_MAX(unsigned long, long, unsigned long)
ATTN_SIM_MIN_MAX(unsigned long, unsigned long, long)
ATTN_SIM_MIN_MAX(long long, long long, long long)
ATTN_SIM_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
ATTN_SIM_MIN_MAX(unsigned long long, long long, unsigned long long)
ATTN_SIM_MIN_MAX(unsigned long long, unsigned long long, long long)
ATTN_SIM_INLINE float min(float x, float y) { return fminf(x, y); }
ATTN_SIM_INLINE float max(float x, float y) { return fmaxf(x, y); }
ATTN_SIM_INLINE double min(double x, double y) { return __builtin_fmin(x, y); }
ATTN_SIM_INLINE double max(double x, double y) { return __builtin_fmax(x, y); }
ATTN_SIM_INLINE double min(float x, double y) { return __builtin_fmin(x, y); }
ATTN_SIM_INLINE double max(float x, double y) { return __builtin_fmax(x, y); }
ATTN_SIM_INLINE double min(double x, float y) { return __builtin_fmin(x, y); }
ATTN_SIM_INLINE double max(double x, float y) { return __builtin_fmax(x, y); }
ATTN_SIM_INLINE int abs(int x) { return x < 0 ? -(unsigned)x : x; }
ATTN_SIM_INLINE long abs(long x) { return x < 0 ? -(unsigned long)x : x; }
ATTN_SIM_INLINE long long abs(long long x) { return x < 0 ? -(unsigned long long)x : x; }
ATTN_SIM_INLINE float abs(float x) { return __builtin_fabsf(x); }
ATTN_SIM_INLINE double abs(double x) { return __builtin_fabs(x); }

ATTN_SIM_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
ATTN_SIM_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
ATTN_SIM_INLINE int __ffs(int x) { return __builtin_ffs(x); }
ATTN_SIM_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
ATTN_SIM_INLINE int __clz(int x) { return x ? __builtin_clz(x) : 32; }
ATTN_SIM_INLINE int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
ATTN_SIM_INLINE unsigned __brev(unsigned x) {
    x = x >> 1 & 0x55555555u | (x & 0x55555555u) << 1;
    x = x >> 2 & 0x33333333u | (x & 0x33333333u) << 2;
    x = x >> 4 & 0x0f0f0f0fu | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
ATTN_SIM_INLINE unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
ATTN_SIM_INLINE int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
ATTN_SIM_INLINE unsigned long long __umul64hi(unsigned long long x, unsigned long long y) { return (unsigned long long)((unsigned __int128)x * y >> 64); }
ATTN_SIM_INLINE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned pick = selector >> 4 * i & 7;
        result |= ((pick < 4 ? x : y) >> 8 * (pick & 3) & 0xffu) << 8 * i;
    }
    return result;
}
ATTN_SIM_INLINE unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) { return (unsigned)((((unsigned long long)high << 32 | low) << (shift & 31)) >> 32); }
ATTN_SIM_INLINE unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) { return (unsigned)(((unsigned long long)high << 32 | low) >> (shift & 31)); }
