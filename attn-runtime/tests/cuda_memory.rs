//! A GPU's memory, counted and exhausted. A process of its own: while it holds all there is, no other test can allocate.

use attn_runtime::cuda::CudaError;
use attn_runtime::cuda::testing::device_for_tests;

#[test]
fn memory_is_counted_and_exhaustion_is_an_error() {
    let Some(device) = device_for_tests() else { return };
    assert_eq!(device.allocated(), 0);
    let buffer = device.allocate(1 << 20).unwrap();
    drop(device.allocate(3 << 20).unwrap());
    assert_eq!((device.allocated(), device.peak_allocated()), (1 << 20, 4 << 20));
    device.reset_peak_allocated();
    assert_eq!(device.peak_allocated(), 1 << 20);
    drop(buffer);
    device.release_unused().unwrap();
    assert_eq!(device.allocated(), 0);

    let (_, total) = device.memory_info().unwrap();
    let error = device.allocate(total + (1 << 30)).unwrap_err();
    assert!(matches!(error, CudaError::OutOfMemory { .. }), "{error}");
    assert_eq!(device.download(&device.upload(&[1, 2]).unwrap()).unwrap(), [1, 2]);
}
