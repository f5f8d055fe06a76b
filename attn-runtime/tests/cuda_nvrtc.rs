//! Real NVRTC: every target that is supported compiles, and failures say what to do.

use attn_runtime::cuda::testing::nvrtc_for_tests;
use attn_runtime::cuda::{Nvrtc, NvrtcError, default_options};

const TARGETS: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

const SCALE: &str = r#"
extern "C" __global__ void __launch_bounds__(128) scale(float* values, int count, float factor) {
    __shared__ float tile[32];
    tile[threadIdx.x % 32] = values[0];
    __syncthreads();
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) values[index] *= factor + tile[(index * 7) % 32];
}
"#;

const SPILLING: &str = r#"
__device__ __noinline__ float helper(float x) { return x * x + 1.0f; }
extern "C" __global__ void __maxnreg__(24) spilling(float* values, int stride) {
    float held[64];
#pragma unroll
    for (int i = 0; i < 64; i++) held[i] = values[i * stride + threadIdx.x];
    values[0] = helper(values[0]);
#pragma unroll
    for (int i = 0; i < 64; i++) values[i * stride * 2 + threadIdx.x] = held[63 - i] * held[i];
}
extern "C" __global__ void plain(float* values) { values[threadIdx.x] = 1.0f; }
"#;

#[test]
fn compiles_for_every_target_and_reports_resources() {
    let nvrtc = nvrtc_for_tests();
    for target in TARGETS {
        let compiled = nvrtc.compile(SCALE, "scale.cu", &default_options(target)).unwrap();
        assert!(compiled.cubin.starts_with(b"\x7fELF"), "{target}");
        let resources = compiled.resources();
        let [usage] = resources.as_slice() else { panic!("{target}: {}", compiled.log) };
        assert_eq!((usage.kernel.as_str(), usage.target.as_str()), ("scale", target));
        assert_eq!(usage.static_shared_bytes, 128, "{usage}");
        assert!(usage.registers > 0 && usage.registers < 64, "{usage}");
        assert_eq!(usage.barriers, 1, "{usage}");
        assert!(!usage.spills() && usage.advisories.is_empty(), "{usage}");
    }
}

#[test]
fn compilation_is_a_function_of_its_inputs() {
    let nvrtc = nvrtc_for_tests();
    let options = default_options("sm_90a");
    let compile = || nvrtc.compile(SCALE, "scale.cu", &options).unwrap().cubin;
    assert_eq!(compile(), compile());
}

#[test]
fn spills_belong_to_the_kernel_that_spills() {
    let compiled = nvrtc_for_tests().compile(SPILLING, "spilling.cu", &default_options("sm_80")).unwrap();
    let resources = compiled.resources();
    let of = |name: &str| resources.iter().find(|usage| usage.kernel == name).unwrap();
    assert!(of("spilling").spills() && of("spilling").stack_bytes > 0, "{}", compiled.log);
    assert!(!of("plain").spills() && of("plain").stack_bytes == 0, "{}", compiled.log);
    assert_eq!(resources.len(), 2, "{}", compiled.log);
}

#[test]
fn a_compile_error_shows_file_line_and_log() {
    let error = nvrtc_for_tests()
        .compile("__global__ void broken() {\n    int x = unknown_name;\n}\n", "softcap.cu", &default_options("sm_80"))
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, NvrtcError::Compile { .. }), "{error:?}");
    assert!(text.contains("softcap.cu(2): error: identifier \"unknown_name\" is undefined"), "{text}");
    assert!(text.contains("--gpu-architecture=sm_80"), "{text}");
}

#[test]
fn bad_assembly_is_a_compile_error_too() {
    let source = "extern \"C\" __global__ void broken() { asm volatile(\"foo.bar;\"); }";
    let error = nvrtc_for_tests().compile(source, "broken.cu", &default_options("sm_80")).unwrap_err();
    assert!(error.to_string().contains("Not a name of any known instruction: 'foo'"), "{error}");
}

#[test]
fn an_unknown_target_names_the_known_ones() {
    for target in ["sm_999", "sm_10", "hopper"] {
        let error = nvrtc_for_tests().compile(SCALE, "scale.cu", &default_options(target)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, NvrtcError::UnsupportedTarget { .. }), "{error:?}");
        assert!(text.contains(target) && text.contains("sm_90"), "{text}");
    }
}

#[test]
fn other_option_mistakes_carry_nvrtcs_words() {
    let mut options = default_options("sm_80");
    options.push("--no-such-option".to_owned());
    let error = nvrtc_for_tests().compile(SCALE, "scale.cu", &options).unwrap_err();
    assert!(error.to_string().contains("no-such-option"), "{error}");
    let virtual_target = ["--gpu-architecture=compute_80".to_owned()];
    let error = nvrtc_for_tests().compile(SCALE, "scale.cu", &virtual_target).unwrap_err();
    assert!(error.to_string().contains("sm_"), "{error}");
}

#[test]
fn a_nul_byte_is_refused() {
    let error = nvrtc_for_tests().compile("int a;\0int b;", "nul.cu", &default_options("sm_80")).unwrap_err();
    assert_eq!(error.to_string(), "the source holds a NUL byte at offset 6; remove it");
}

#[test]
fn threads_compile_at_the_same_time() {
    let nvrtc = nvrtc_for_tests();
    std::thread::scope(|scope| {
        for target in TARGETS {
            let nvrtc = &nvrtc;
            scope.spawn(move || nvrtc.compile(SCALE, "scale.cu", &default_options(target)).unwrap());
        }
    });
}

#[test]
fn version_and_fingerprint_identify_the_library() {
    let nvrtc = nvrtc_for_tests();
    assert!(nvrtc.version().0 >= 12, "{nvrtc:?}");
    assert!(nvrtc.supported_targets().contains(&90), "{nvrtc:?}");
    assert!(!nvrtc.fingerprint().is_empty());
    let again = Nvrtc::load_from(nvrtc.path()).unwrap();
    assert_eq!((again.version(), again.fingerprint()), (nvrtc.version(), nvrtc.fingerprint()));
}

#[test]
fn a_file_that_is_no_library_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libnvrtc.so.13");
    std::fs::write(&path, b"not a library").unwrap();
    for named in [path.as_path(), folder.path()] {
        let error = Nvrtc::load_from(named).unwrap_err();
        assert!(matches!(error, NvrtcError::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains(&named.display().to_string()), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = Nvrtc::load_from(folder.path()).unwrap_err();
    assert!(error.to_string().contains("holds no libnvrtc"), "{error}");
}
