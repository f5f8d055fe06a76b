//! Points in a device's stream, for timing.

use std::fmt;

use cudarc::driver::sys::CUevent_flags_enum;
use cudarc::driver::{CudaEvent, sys};

use super::device::CudaDevice;
use super::error::{CudaError, failed};

/// A point in a device's stream. Time between two of them is the device's own, free of the host's.
pub struct Event {
    event: CudaEvent,
    device: CudaDevice,
}

impl Event {
    /// An event that is not recorded yet.
    pub fn new(device: &CudaDevice) -> Result<Self, CudaError> {
        // Without flags the binding creates events that cannot time.
        let flags = Some(CUevent_flags_enum::CU_EVENT_DEFAULT);
        let event = device.inner.context.new_event(flags).map_err(failed("creating an event"))?;
        Ok(Self { event, device: device.clone() })
    }

    /// Records the point that the stream has reached once all work issued so far is done.
    pub fn record(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        self.event.record(&self.device.inner.stream).map_err(failed("recording an event"))
    }

    /// Waits until the device has passed the recorded point.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        self.event.synchronize().map_err(failed("waiting for an event"))
    }

    /// Milliseconds from this event to a later one, both recorded. Waits for the later one.
    pub fn elapsed_ms(&self, end: &Self) -> Result<f32, CudaError> {
        self.device.owns("event", &end.device)?;
        end.synchronize()?;
        let mut milliseconds = 0.0;
        let [start, end] = [&self.event, &end.event].map(|event| event.cu_event().cast());
        // SAFETY: both events are live, and the pointer is to a live float.
        let code = unsafe { (self.device.inner.driver.elapsed_time)(&raw mut milliseconds, start, end) };
        if code == 0 {
            return Ok(milliseconds);
        }
        // Built by hand: a code that the binding does not know must not become one of its enum's values.
        let code = u32::try_from(code).unwrap_or(u32::MAX);
        let known = [sys::CUresult::CUDA_ERROR_INVALID_HANDLE, sys::CUresult::CUDA_ERROR_NOT_READY];
        match known.into_iter().find(|known| *known as u32 == code) {
            Some(known) => Err(failed("timing between events")(cudarc::driver::DriverError(known))),
            None => Err(CudaError::Driver {
                operation: "timing between events",
                code,
                name: "unknown error".to_owned(),
                description: String::new(),
            }),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Event").field("device", &self.device).finish_non_exhaustive()
    }
}
