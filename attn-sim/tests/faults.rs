//! Small kernels, each with one mistake and the kind of fault that must be found, and the same kernels without it.
//!
//! Invariant: a mistake that any order of threads shows is found with the first seed; all are found within ten.

use attn_sim::{Failure, FaultKind, Kernel, Launch, Memory};

/// Primitives that the kernels share.
const PRELUDE: &str = r#"
typedef unsigned int u32;
__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy_async(u32 to, const void* from) { asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(from) : "memory"); }
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copy_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }
__device__ __forceinline__ void group_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void barrier_init(u32 bar, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(count) : "memory"); }
__device__ __forceinline__ void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrier_expect(u32 bar, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(bytes) : "memory"); }
__device__ __forceinline__ void barrier_arrive(u32 bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory"); }
__device__ __forceinline__ void barrier_wait(u32 bar, u32 parity) { asm volatile("{ .reg .pred done;\nWAIT: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra WAIT; }" :: "r"(bar), "r"(parity) : "memory"); }
__device__ __forceinline__ void bulk_load(u32 to, const void* from, u32 bytes, u32 bar) { asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" :: "r"(to), "l"(from), "r"(bytes), "r"(bar) : "memory"); }
__device__ __forceinline__ void bulk_store(void* to, u32 from, u32 bytes) { asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" :: "l"(to), "r"(from), "r"(bytes) : "memory"); }
__device__ __forceinline__ void bulk_finish() { asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
template <int N> __device__ __forceinline__ void registers_acquire() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(N)); }
template <int N> __device__ __forceinline__ void registers_release() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(N)); }
"#;

/// 256 floats go in and out; a block has 128 threads and 4 KiB of dynamic shared memory.
struct Compiled(Kernel);

impl Compiled {
    fn new(body: &str) -> Compiled {
        let source = format!(
            "{PRELUDE}\nextern \"C\" __global__ void __launch_bounds__(128) kernel(const float* in, float* out) {{\n\
             extern __shared__ __align__(1024) unsigned char shared[];\n\
             float* tile = (float*)shared; const int t = threadIdx.x; const u32 tile_at = shared_address(shared), bar = tile_at + 2048;\n\
             {body}\n}}"
        );
        Compiled(Kernel::new(&source, "kernel").expect("the kernel compiles"))
    }

    fn run(&self, seed: u64, blocks: u32) -> Result<Vec<f32>, Box<Failure>> {
        let memory = Memory::new();
        let (input, output) = (memory.allocate("in", 1024), memory.allocate("out", 1024));
        let values: Vec<u8> = (0..256).flat_map(|value| (value as f32).to_le_bytes()).collect();
        input.write(0, &values);
        let launch = Launch { grid: [blocks, 1, 1], block: [128, 1, 1], shared_memory: 4096, seed, trace: false };
        let arguments = [&input.address().to_le_bytes()[..], &output.address().to_le_bytes()];
        self.0.launch(&memory, &launch, &arguments)?;
        let bytes = output.read();
        Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
    }
}

#[track_caller]
fn finds(kind: FaultKind, body: &str) -> Failure {
    finds_one_of(&[kind], body)
}

/// What is found first may depend on the order of threads.
#[track_caller]
fn finds_one_of(kinds: &[FaultKind], body: &str) -> Failure {
    let kernel = Compiled::new(body);
    let found = (0..10).find_map(|seed| kernel.run(seed, 1).err());
    let failure = *found.unwrap_or_else(|| panic!("no fault in\n{body}"));
    assert!(kinds.contains(&failure.fault.kind), "{failure}");
    assert!(!failure.fault.place.lines.is_empty(), "the fault has no line: {failure}");
    failure
}

#[track_caller]
fn passes(body: &str) -> Vec<f32> {
    let kernel = Compiled::new(body);
    let run = |seed| kernel.run(seed, 1).unwrap_or_else(|failure| panic!("{failure}"));
    let mut results: Vec<Vec<f32>> = (0..10).map(run).collect();
    results.dedup_by(|a, b| a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())));
    assert_eq!(results.len(), 1, "every seed gives the same");
    results.remove(0)
}

#[test]
fn bounds_and_alignment() {
    assert_eq!(passes("out[t] = in[t + 128];")[..2], [128.0, 129.0]);
    let failure = finds(FaultKind::OutOfBounds, "out[t] = in[t + 129];");
    assert!(failure.to_string().contains("offset 1024 of `in`"), "{failure}");
    assert_eq!(failure.fault.place.thread, Some(127));
    assert!(failure.fault.place.lines[0].text.contains("out[t] = in[t + 129];"), "{failure}");
    finds(FaultKind::OutOfBounds, "out[t - 1] = in[t];");
    finds(FaultKind::OutOfBounds, "tile[t + 1000] = 1.f;");
    finds(
        FaultKind::OutOfBounds,
        "copy_async(tile_at + 4096 - 16 * t, in); copy_async_commit(); copy_async_wait<0>();",
    );
    finds(FaultKind::Misaligned, "*(float4*)(out + 2) = *(const float4*)in;");
    finds(FaultKind::Misaligned, "copy_async(tile_at + 16 * t, in + 1); copy_async_commit(); copy_async_wait<0>();");
}

#[test]
fn shared_memory_is_ordered_by_barriers() {
    let good = "tile[t] = 0.f; __syncthreads(); tile[t] = in[t]; group_barrier(1, 128); out[t] = tile[127 - t];";
    assert_eq!(passes(good)[..2], [127.0, 126.0]);
    let failure = finds(FaultKind::Race, &good.replace("group_barrier(1, 128);", ""));
    assert_eq!(failure.fault.history.len(), 1, "{failure}");
    finds(FaultKind::Uninitialized, "out[t] = tile[t];");
    finds(FaultKind::Race, "tile[t] = 0.f; __syncthreads(); out[t] = tile[127 - t]; tile[t] = 1.f;");
    finds(FaultKind::Race, "tile[t] = in[t]; __syncwarp(); out[t] = tile[t ^ 32];");
    assert_eq!(passes("tile[t] = in[t]; __syncwarp(); out[t] = tile[t ^ 1];")[0], 1.0);
    finds(FaultKind::Race, "tile[0] = t;");
}

#[test]
fn blocks_do_not_share() {
    let failure = Compiled::new("out[t] = in[t];").run(0, 2).expect_err("two blocks write the same");
    assert_eq!(failure.fault.kind, FaultKind::Race, "{failure}");
    Compiled::new("out[t + 128 * blockIdx.x] = in[t];").run(0, 2).unwrap();
    Compiled::new("atomicAdd(out + t, 1.f);").run(0, 2).unwrap();
}

#[test]
fn copies_are_waited_for() {
    let good = "copy_async(tile_at + 16 * t, in + 4 * (t % 64)); copy_async_commit(); copy_async_wait<0>(); __syncthreads(); out[t] = tile[255 - t];";
    assert_eq!(passes(good)[0], 255.0);
    finds(FaultKind::CopyInFlight, &good.replace("copy_async_wait<0>();", ""));
    finds(FaultKind::CopyInFlight, &good.replace("copy_async_wait<0>", "copy_async_wait<1>"));
    finds_one_of(
        &[FaultKind::Race, FaultKind::Uninitialized, FaultKind::CopyInFlight],
        &good.replace("__syncthreads();", ""),
    );
    finds(FaultKind::UnfinishedAtExit, "copy_async(tile_at + 16 * t, in); copy_async_commit();");
}

#[test]
fn bulk_copies_signal_barriers() {
    let good = "if (t == 0) { barrier_init(bar, 1); barrier_init_fence(); } __syncthreads();\n\
                if (t == 0) { barrier_expect(bar, 512); bulk_load(tile_at, in, 512, bar); }\n\
                barrier_wait(bar, 0);\nout[t] = tile[t];";
    assert_eq!(passes(good)[5], 5.0);
    finds(FaultKind::MissingProxyFence, &good.replace("barrier_init_fence();", ""));
    let early = finds(FaultKind::CopyInFlight, &good.replace("barrier_wait(bar, 0);", "__syncthreads();"));
    assert!(early.to_string().contains("cp.async.bulk (load) issued by"), "{early}");
    finds(FaultKind::CopyInFlight, &good.replace("barrier_wait(bar, 0)", "barrier_wait(bar, 1); __syncthreads()"));
    let stuck = finds(FaultKind::Deadlock, &good.replace("barrier_expect(bar, 512)", "barrier_expect(bar, 528)"));
    assert!(stuck.to_string().contains("16 bytes missing"), "{stuck}");
    finds(FaultKind::BarrierMisuse, &good.replace("barrier_expect(bar, 512)", "barrier_expect(bar, 496)"));
    finds(FaultKind::BarrierMisuse, &good.replace("barrier_init(bar, 1);", ""));
    finds(
        FaultKind::BarrierMisuse,
        "if (t == 0) barrier_init(bar, 4); __syncthreads(); if (t < 5) barrier_arrive(bar);\nif (t == 0) barrier_init(bar, 4); __syncthreads(); tile[512] = 1.f;",
    );
    let unordered = [FaultKind::Race, FaultKind::BarrierMisuse];
    finds_one_of(&unordered, "if (t == 0) barrier_init(bar, 128); barrier_arrive(bar);");
}

#[test]
fn stores_by_the_asynchronous_proxy() {
    let good = "tile[t] = in[t]; publish(); __syncthreads();\n\
                if (t == 0) { bulk_store(out, tile_at, 512); bulk_finish(); } __syncthreads();\ntile[t] = 0.f;";
    assert_eq!(passes(good)[7], 7.0);
    finds(FaultKind::MissingProxyFence, &good.replace("publish();", ""));
    finds(FaultKind::Race, &good.replace("publish(); __syncthreads();", "publish();"));
    finds(FaultKind::OverwrittenInFlight, &good.replace("bulk_finish();", ""));
    finds(FaultKind::UnfinishedAtExit, &good.replace("bulk_finish();", "").replace("tile[t] = 0.f;", ""));
}

#[test]
fn barriers_count_threads() {
    passes("group_barrier(1 + t / 64, 64);");
    finds(FaultKind::BarrierCount, "group_barrier(1, t < 64 ? 64 : 128);");
    finds(FaultKind::BarrierCount, "group_barrier(16, 64);");
    finds(FaultKind::BarrierCount, "if (t < 64) asm volatile(\"bar.arrive 1, 96;\");");
    let stuck = finds(FaultKind::Deadlock, "if (t < 64) group_barrier(1, 96);");
    assert!(stuck.to_string().contains("64 threads (0-63) wait for barrier 1"), "{stuck}");
    passes("if (t >= 64) return; __syncthreads();");
}

#[test]
fn collectives_are_executed_together() {
    let good = "float x = in[t]; x += __shfl_xor_sync(~0u, x, 1); out[t] = x;";
    assert_eq!(passes(good)[..3], [1.0, 1.0, 5.0]);
    finds(
        FaultKind::Divergence,
        "float x = in[t]; if (t % 2) x += __shfl_xor_sync(~0u, x, 1); else __syncwarp(); out[t] = x;",
    );
    finds(FaultKind::Divergence, "float x = in[t]; if (t % 32 < 8) x += __shfl_xor_sync(~0u, x, 1); out[t] = x;");
    finds(FaultKind::Divergence, "float x = in[t]; if (t % 32 < 8) x += __shfl_sync(0xFFu, x, 9); out[t] = x;");
    assert_eq!(passes("float x = in[t]; if (t % 32 < 8) x += __shfl_sync(0xFFu, x, 3); out[t] = x;")[1], 4.0);
    assert_eq!(passes("out[t] = __ballot_sync(~0u, t % 3 == 0);")[0], 0x4924_9249u32 as f32);
    finds(FaultKind::Trap, "if (t == 77) __trap();");
}

#[test]
fn registers_have_a_budget() {
    passes("if (t < 32) registers_release<24>(); else registers_release<128>();");
    finds(FaultKind::RegisterBudget, "registers_release<20>();");
    finds(FaultKind::RegisterBudget, "registers_release<128>(); registers_acquire<120>();");
}

/// A block shares what its threads were launched with, 168 registers each of 384 threads, and not what is left of the 65,536 of a
/// multiprocessor.
#[test]
fn registers_left_by_the_launch_are_no_blocks() {
    let run = |release: u32| {
        let source = format!(
            "{PRELUDE}\nextern \"C\" __global__ void kernel() {{ if (threadIdx.x < 128) registers_release<{release}>(); else registers_acquire<240>(); }}"
        );
        let launch = Launch { grid: [1; 3], block: [384, 1, 1], shared_memory: 0, seed: 0, trace: false };
        Kernel::new(&source, "kernel").unwrap().launch(&Memory::new(), &launch, &[])
    };
    assert!(run(24).is_ok());
    assert_eq!(run(32).unwrap_err().fault.kind, FaultKind::Deadlock);
}

#[test]
fn equal_seeds_are_equal_runs() {
    let source = format!(
        "{PRELUDE}\nextern \"C\" __global__ void kernel(float* out) {{ out[threadIdx.x] = 1.f; __syncthreads(); }}"
    );
    let kernel = Kernel::new(&source, "kernel").unwrap();
    let memory = Memory::new();
    let out = memory.allocate("out", 512);
    let trace = |seed| {
        let launch = Launch { grid: [1; 3], block: [128, 1, 1], shared_memory: 0, seed, trace: true };
        kernel.launch(&memory, &launch, &[&out.address().to_le_bytes()]).unwrap().trace.unwrap()
    };
    assert_eq!(trace(3), trace(3));
    assert!(trace(3).contains("bar.sync 0"), "{}", trace(3));
}
