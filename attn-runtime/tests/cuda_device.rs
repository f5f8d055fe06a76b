//! Devices, memory, launches and events on a GPU; without one, that its absence is an error value worth reading.

use std::sync::Arc;

use attn_runtime::cuda::testing::{device_for_tests, nvrtc_for_tests};
use attn_runtime::cuda::{
    CudaDevice, CudaError, Event, Kernel, KernelArgument, KernelCache, KernelRequest, Launch, Module,
};

const SOURCE: &str = r#"
struct Affine { float factor; float offset; long long count; };

extern "C" __global__ void affine(float* values, Affine affine) {
    long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index < affine.count) values[index] = values[index] * affine.factor + affine.offset;
}

extern "C" __global__ void reverse(const int* from, int* to, int count) {
    extern __shared__ int tile[];
    for (int i = threadIdx.x; i < count; i += blockDim.x) tile[count - 1 - i] = from[i];
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = tile[i];
}
"#;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Affine {
    factor: f32,
    offset: f32,
    count: i64,
}

fn module(device: &CudaDevice) -> Module {
    let (major, minor) = device.compute_capability();
    let cache = KernelCache::in_memory(nvrtc_for_tests());
    Module::compile(device, &cache, &KernelRequest::new(SOURCE, "device.cu", format!("sm_{major}{minor}"))).unwrap()
}

/// One dimension of blocks and threads.
fn shape(blocks: u32, threads: u32, shared_memory: u32) -> Launch {
    Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_memory }
}

fn run_affine(device: &CudaDevice, kernel: &Kernel, values: &[f32], factor: f32, offset: f32) -> Vec<f32> {
    let buffer = device.upload(bytemuck::cast_slice(values)).unwrap();
    let affine = Affine { factor, offset, count: values.len() as i64 };
    let arguments = [KernelArgument::pointer(buffer.address()), KernelArgument::value(&affine)];
    let blocks = u32::try_from(values.len().div_ceil(128)).unwrap();
    // SAFETY: the kernel touches `count` floats of a buffer that holds as many.
    unsafe { kernel.launch(device, shape(blocks, 128, 0), &arguments) }.unwrap();
    let mut result = vec![0.0; values.len()];
    device.download_into(&buffer, 0, bytemuck::cast_slice_mut(&mut result)).unwrap();
    result
}

#[test]
fn absence_is_an_error_that_says_what_was_searched() {
    match CudaDevice::count() {
        Err(error @ CudaError::DriverMissing { .. }) => {
            let text = error.to_string();
            for part in ["libcuda.so.1: ", "/usr/local/nvidia/lib64/libcuda.so.1: ", "use the CPU", "Install"] {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
            let again = CudaDevice::new(0).unwrap_err();
            assert_eq!(again.to_string(), text);
        }
        Err(error) => panic!("a driver that does not work: {error}"),
        Ok(0) => assert!(matches!(CudaDevice::new(0), Err(CudaError::NoDevice))),
        Ok(count) => {
            let error = CudaDevice::new(count).unwrap_err();
            assert_eq!(error.to_string(), format!("there is no GPU {count}: the driver sees {count}, numbered from 0"));
        }
    }
}

#[test]
fn properties_are_plausible() {
    let Some(device) = device_for_tests() else { return };
    assert!(!device.name().is_empty());
    assert!(device.compute_capability() >= (5, 0), "{device:?}");
    assert!(device.driver_version() >= (12, 0), "{device:?}");
    assert!(device.max_shared_memory_per_block() >= 48 << 10, "{device:?}");
    assert!(device.multiprocessors() > 0, "{device:?}");
    let (free, total) = device.memory_info().unwrap();
    assert!(0 < free && free <= total);
}

#[test]
fn bytes_go_there_and_back() {
    let Some(device) = device_for_tests() else { return };
    let bytes: Vec<u8> = (0..10_007).map(|index| (index % 251) as u8).collect();
    let buffer = device.upload(&bytes).unwrap();
    assert_eq!((buffer.len(), buffer.address() % 256), (bytes.len(), 0));
    assert_eq!(device.download(&buffer).unwrap(), bytes);
    assert_eq!(device.download_range(&buffer, 5..17).unwrap(), bytes[5..17]);

    let other = device.zeroed(100).unwrap();
    device.copy(&buffer, 10..60, &other, 50).unwrap();
    let mut expected = vec![0; 100];
    expected[50..].copy_from_slice(&bytes[10..60]);
    assert_eq!(device.download(&other).unwrap(), expected);
    device.copy(&other, 50..100, &other, 0).unwrap();
    device.write(&other, 99, &[7]).unwrap();
    expected.copy_within(50..100, 0);
    expected[99] = 7;
    assert_eq!(device.download(&other).unwrap(), expected);
    device.fill(&other, 9).unwrap();
    assert_eq!(device.download(&other).unwrap(), [9; 100]);

    let empty = device.upload(&[]).unwrap();
    assert!(empty.is_empty() && empty.address() != 0);
    assert_eq!(device.download(&empty).unwrap(), []);
}

#[test]
fn ranges_outside_a_buffer_are_refused() {
    let Some(device) = device_for_tests() else { return };
    let buffer = device.zeroed(100).unwrap();
    let other = device.zeroed(10).unwrap();
    let faults = [
        device.download_range(&buffer, 50..101).unwrap_err(),
        device.download_range(&buffer, 0..usize::MAX).unwrap_err(),
        device.write(&buffer, 99, &[0, 0]).unwrap_err(),
        device.write(&buffer, usize::MAX, &[0]).unwrap_err(),
        device.copy(&buffer, 0..11, &other, 0).unwrap_err(),
        device.copy(&buffer, 0..60, &buffer, 40).unwrap_err(),
    ];
    for fault in faults {
        assert!(matches!(fault, CudaError::InvalidRange { .. }), "{fault}");
    }
    let stranger = CudaDevice::new(0).unwrap();
    assert!(matches!(stranger.download(&buffer), Err(CudaError::OtherDevice { .. })));
}

#[test]
fn kernels_compute() {
    let Some(device) = device_for_tests() else { return };
    let kernel = module(&device).kernel("affine").unwrap();
    let values: Vec<f32> = (0..1000_u16).map(f32::from).collect();
    let expected: Vec<f32> = values.iter().map(|value| value * 2.0 + 1.0).collect();
    assert_eq!(run_affine(&device, &kernel, &values, 2.0, 1.0), expected);
    let resources = kernel.resources();
    assert!(resources.registers > 0 && resources.local_bytes == 0, "{resources:?}");
    assert!(kernel.occupancy(128, 0).unwrap() >= 1);
}

#[test]
fn launches_that_cannot_be_right_are_refused() {
    let Some(device) = device_for_tests() else { return };
    let module = module(&device);
    let kernel = module.kernel("reverse").unwrap();
    let error = module.kernel("revers").unwrap_err();
    assert!(matches!(error, CudaError::KernelMissing { .. }), "{error}");

    let buffer = device.upload(&[0; 64]).unwrap();
    let [from, to] = [KernelArgument::pointer(buffer.address()), KernelArgument::pointer(buffer.address())];
    let good = [from.clone(), to.clone(), KernelArgument::i32(0)];
    let refused = |launch: Launch, arguments: &[KernelArgument]| {
        // SAFETY: a count of 0 touches nothing; the other launches must not start.
        let error = unsafe { kernel.launch(&device, launch, arguments) }.unwrap_err();
        assert!(matches!(error, CudaError::InvalidLaunch { .. }), "{error}");
    };
    refused(shape(0, 32, 0), &good);
    refused(shape(1, 2048, 0), &good);
    refused(shape(1, 32, 100 << 10), &good);
    if device.driver_version() >= (12, 4) {
        refused(shape(1, 32, 0), &good[..2]);
        refused(shape(1, 32, 0), &[from, to, KernelArgument::i64(0)]);
    }
    // SAFETY: a count of 0 touches nothing.
    unsafe { kernel.launch(&device, shape(1, 32, 0), &good) }.unwrap();
    device.synchronize().unwrap();
}

#[test]
fn large_shared_memory_is_had_by_asking() {
    let Some(device) = device_for_tests() else { return };
    let kernel = module(&device).kernel("reverse").unwrap();
    let bytes = device.max_shared_memory_per_block();
    let count = bytes / 4;
    let values: Vec<i32> = (0..i32::try_from(count).unwrap()).collect();
    let from = device.upload(bytemuck::cast_slice(&values)).unwrap();
    let to = device.zeroed(count * 4).unwrap();
    kernel.set_dynamic_shared_memory(bytes).unwrap();
    let arguments = [
        KernelArgument::pointer(from.address()),
        KernelArgument::pointer(to.address()),
        KernelArgument::i32(i32::try_from(count).unwrap()),
    ];
    let launch = shape(1, 256, u32::try_from(bytes).unwrap());
    // SAFETY: both buffers hold `count` integers, and the block as much shared memory.
    unsafe { kernel.launch(&device, launch, &arguments) }.unwrap();
    let mut reversed = vec![0; count];
    device.download_into(&to, 0, bytemuck::cast_slice_mut(&mut reversed)).unwrap();
    assert!(reversed.iter().rev().eq(&values));

    let error = kernel.set_dynamic_shared_memory(bytes + 1).unwrap_err();
    assert!(error.to_string().contains(&bytes.to_string()), "{error}");
}

#[test]
fn binaries_that_do_not_fit_are_refused() {
    let Some(device) = device_for_tests() else { return };
    for garbage in [&[][..], &[0; 100], &[b"\x7fELF".as_slice(), &[0; 200]].concat()] {
        assert!(Module::load(&device, garbage).is_err());
    }
    let (major, _) = device.compute_capability();
    let target = if major == 8 { "sm_90a" } else { "sm_80" };
    let request = KernelRequest::new(SOURCE, "device.cu", target);
    let cache = KernelCache::in_memory(nvrtc_for_tests());
    let error = Module::compile(&device, &cache, &request).unwrap_err();
    assert!(error.to_string().contains("Compile for this GPU's target"), "{error}");
    assert_eq!(cache.statistics().compilations, 2);
}

#[test]
fn many_threads_share_a_device() {
    let Some(device) = device_for_tests() else { return };
    let kernel = module(&device).kernel("affine").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u16 {
            let (device, kernel) = (&device, &kernel);
            scope.spawn(move || {
                for _ in 0..20 {
                    let values = vec![f32::from(thread); 1000];
                    let expected = vec![f32::from(thread) * 3.0 - 1.0; 1000];
                    assert_eq!(run_affine(device, kernel, &values, 3.0, -1.0), expected);
                }
            });
        }
    });
    assert_eq!(device.allocated(), 0);
}

#[test]
fn a_buffer_dropped_on_another_thread_is_freed() {
    let Some(device) = device_for_tests() else { return };
    let buffer = Arc::new(device.allocate(1 << 20).unwrap());
    let moved = Arc::clone(&buffer);
    drop(buffer);
    std::thread::spawn(move || drop(moved)).join().unwrap();
    assert_eq!(device.allocated(), 0);
    device.synchronize().unwrap();
}

#[test]
fn events_time_the_device() {
    let Some(device) = device_for_tests() else { return };
    let [start, end] = [Event::new(&device).unwrap(), Event::new(&device).unwrap()];
    assert!(start.elapsed_ms(&end).is_err(), "events that were never recorded");
    let buffer = device.allocate(256 << 20).unwrap();
    start.record().unwrap();
    device.fill(&buffer, 1).unwrap();
    end.record().unwrap();
    let milliseconds = start.elapsed_ms(&end).unwrap();
    assert!(milliseconds > 0.0 && milliseconds < 1000.0, "{milliseconds}");
}
