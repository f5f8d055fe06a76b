// Arithmetic that is right or writes its line to `wrong`.
typedef unsigned u32;
typedef unsigned long long u64;
#define EXPECT(...) do { if (!(__VA_ARGS__)) wrong[count++ % 16] = __LINE__; } while (0)
#define INFINITY __int_as_float(0x7f800000)
#define F(x) __float_as_uint(x)

__device__ u32 ex2(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return F(y); }
__device__ u32 ex2_subnormal(float x) { float y; asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return F(y); }
__device__ u32 lg2(float x) { float y; asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return F(y); }
__device__ u32 rcp(float x) { float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return F(y); }
__device__ u32 rsqrt_(float x) { float y; asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return F(y); }
__device__ u32 tanh_(float x) { float y; asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return F(y); }
__device__ u32 div_full(float x, float z) { float y; asm("div.full.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(z)); return F(y); }
__device__ u32 tf32(float x) { u32 y; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x)); return y; }

extern "C" __global__ void arithmetic(u32* wrong) {
    int count = 0;
    const float nan = __int_as_float(0xffc00001);
    const u32 NAN_BITS = 0x7fffffff;

    EXPECT(ex2(3.f) == F(8.f) && ex2(-1.f) == F(0.5f) && ex2(0.f) == F(1.f));
    EXPECT(ex2(-INFINITY) == 0 && ex2(INFINITY) == F(INFINITY) && ex2(nan) == NAN_BITS);
    EXPECT(ex2(-126.f) == 0x00800000 && ex2(-127.f) == 0 && ex2_subnormal(-127.f) == 0x00400000);
    EXPECT(ex2(__int_as_float(0x80000001)) == F(1.f) && ex2(128.f) == F(INFINITY));
    EXPECT(lg2(8.f) == F(3.f) && lg2(0.f) == F(-INFINITY) && lg2(__int_as_float(1)) == F(-INFINITY) && lg2(-1.f) == NAN_BITS);
    EXPECT(rcp(4.f) == F(0.25f) && rcp(0.f) == F(INFINITY) && rcp(-0.f) == F(-INFINITY) && rcp(1.7e38f * 2) == 0 && rcp(-INFINITY) == F(-0.f));
    EXPECT(rsqrt_(4.f) == F(0.5f) && rsqrt_(0.f) == F(INFINITY) && rsqrt_(-1.f) == NAN_BITS);
    EXPECT(tanh_(INFINITY) == F(1.f) && tanh_(-INFINITY) == F(-1.f) && tanh_(0.f) == 0);
    EXPECT(div_full(1.f, 3.f) == F(1.f / 3.f) && div_full(0.f, 0.f) == NAN_BITS);

    // ties go away from zero
    EXPECT(tf32(__int_as_float(0x3f801000)) == 0x3f802000 && tf32(__int_as_float(0xbf801000)) == 0xbf802000);
    EXPECT(tf32(__int_as_float(0x3f800fff)) == 0x3f800000 && tf32(INFINITY) == F(INFINITY) && tf32(nan) == (F(nan) & ~0x1fffu));

    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(1.f), "f"(2.f));
    EXPECT(word == 0x3f804000);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(1.f), "f"(-2.f));
    EXPECT(word == 0x3c00c000);
    int whole;
    asm("cvt.rzi.s32.f32 %0, %1;" : "=r"(whole) : "f"(-2.75f));
    EXPECT(whole == -2);
    asm("cvt.rni.s32.f32 %0, %1;" : "=r"(whole) : "f"(3e9f));
    EXPECT(whole == 0x7fffffff);
    float real;
    asm("cvt.rn.f32.s32 %0, %1;" : "=f"(real) : "r"(-7));
    EXPECT(real == -7.f);
    u64 wide;
    asm("cvt.s64.s32 %0, %1;" : "=l"(wide) : "r"(-7));
    EXPECT(wide == (u64)-7ll);
    asm("cvt.u32.u64 %0, %1;" : "=r"(word) : "l"(0x100000002ull));
    EXPECT(word == 2);
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(wide) : "r"(0xffffffffu), "r"(2));
    EXPECT(wide == 0x1fffffffeull);
    asm("mov.b64 %0, {%1, %2};" : "=l"(wide) : "r"(1), "r"(2));
    EXPECT(wide == 0x200000001ull);
    u32 low, high;
    asm("mov.b64 {%0, %1}, %2;" : "=r"(low), "=r"(high) : "l"(wide));
    EXPECT(low == 1 && high == 2);
    asm("mov.b32 %0, %1;" : "=r"(word) : "f"(1.f));
    EXPECT(word == 0x3f800000);
    asm("mov.f32 %0, 1.5;" : "=f"(real));
    EXPECT(real == 1.5f);
    asm("{ .reg .b32 a, b; and.b32 a, %1, 0xff; or.b32 b, a, 0x100; xor.b32 a, b, 1; not.b32 a, a; sub.s32 %0, a, 1; }" : "=r"(word) : "r"(0x1234));
    EXPECT(word == ~0x135u - 1);
    asm("shl.b32 %0, %1, 33;" : "=r"(word) : "r"(1));
    EXPECT(word == 0);
    asm("shr.s32 %0, %1, 40;" : "=r"(word) : "r"(-8));
    EXPECT(word == 0xffffffff);
    asm("mad.lo.u32 %0, %1, 3, 4;" : "=r"(word) : "r"(5));
    EXPECT(word == 19);
    asm("min.s32 %0, %1, 3;" : "=r"(whole) : "r"(-5));
    EXPECT(whole == -5);
    asm("fma.rn.f32 %0, %1, %1, %2;" : "=f"(real) : "f"(3.f), "f"(1.f));
    EXPECT(real == 10.f);
    asm("max.f32 %0, %1, %2;" : "=f"(real) : "f"(nan), "f"(1.f));
    EXPECT(real == 1.f);
    asm("lop3.b32 %0, %1, %2, %3, 0xE8;" : "=r"(word) : "r"(3), "r"(5), "r"(6));
    EXPECT(word == 7);
    asm("prmt.b32 %0, %1, %2, 0x5410;" : "=r"(word) : "r"(0x11112222), "r"(0x33334444));
    EXPECT(word == 0x44442222);
    asm("{ .reg .pred p<2>; setp.gt.f32 p0, %1, 0f00000000; setp.lt.s32 p1|p0, 2, 1; selp.b32 %0, 4, 5, p0; }" : "=r"(word) : "f"(1.f));
    EXPECT(word == 5 - 1);
    asm("{ .reg .pred p; setp.ne.f32 p, %1, %1; selp.f32 %0, 0f3F800000, 0f40000000, p; }" : "=f"(real) : "f"(nan));
    EXPECT(real == 2.f);
    asm("{ .reg .pred p; setp.neu.f32 p, %1, %1; selp.f32 %0, 0f3F800000, 0f40000000, p; }" : "=f"(real) : "f"(nan));
    EXPECT(real == 1.f);
    bool flag;
    asm("mov.u32 %0, %1;" : "=r"(flag) : "r"(true));
    EXPECT(flag);
    asm("mov.u32 %[to], %[from];" : [to] "=r"(word) : [from] "r"(77));
    EXPECT(word == 77);
    asm("mov.u32 %0, %%tid.y;" : "=r"(word));
    EXPECT(word == 2);
    asm("mov.u32 %0, %%laneid;" : "=r"(word));
    EXPECT(word == 1 + 4 * 2);
    int evaluations = 0;
    asm("add.u32 %0, %0, %1;" : "+r"(word) : "r"(++evaluations));
    EXPECT(evaluations == 1 && word == 10);

    // built-in functions
    EXPECT(fmaxf(nan, 2.f) == 2.f && fminf(2.f, nan) == 2.f && F(fmaxf(-0.f, 0.f)) == 0 && F(fminf(0.f, -0.f)) == 0x80000000);
    EXPECT(min(-1, 2) == -1 && max(3u, 2u) == 3 && min(5ll, 4ll) == 4 && max(1.f, 2.f) == 2.f && abs(-3) == 3 && abs(-3.f) == 3.f);
    EXPECT(exp2f(3.f) == 8.f && log2f(8.f) == 3.f && expf(0.f) == 1.f && sqrtf(9.f) == 3.f && floorf(-0.5f) == -1.f && rintf(2.5f) == 2.f);
    EXPECT(isnan(nan) && isinf(INFINITY) && !isfinite(INFINITY) && __saturatef(nan) == 0.f && __saturatef(2.f) == 1.f && fabsf(-1.f) == 1.f);
    EXPECT(__popc(7) == 3 && __ffs(8) == 4 && __clz(1) == 31 && __clz(0) == 32 && __brev(1) == 0x80000000 && __umulhi(1u << 31, 4) == 2);
    EXPECT(__float_as_int(1.f) == 0x3f800000 && copysignf(1.f, -0.f) == -1.f && powf(2.f, 3.f) == 8.f && __fdividef(1.f, 4.f) == 0.25f);
    EXPECT(threadIdx.x == 1 && blockIdx.z == 7 && blockDim.x == 4 && gridDim.y == 9 && warpSize == 32);
    EXPECT(sizeof(float4) == 16 && alignof(uint4) == 16 && alignof(float2) == 8 && make_int2(1, 2).y == 2);
    asm volatile("" ::: "memory");
}
