//! Element types of tensors and the Rust types that hold them.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper half of a 32-bit IEEE float.
    BF16,
    /// 32-bit signed integer.
    I32,
}

impl DType {
    /// The size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// Whether q, k and v may have this type.
    pub fn is_float(self) -> bool {
        self != DType::I32
    }

    /// The distance from 1 to the next number, halved: the largest relative error of one rounding. 0 for integers.
    pub fn unit_roundoff(self) -> f64 {
        match self {
            DType::F32 => f64::from(f32::EPSILON) / 2.0,
            DType::F16 => f16::EPSILON.to_f64() / 2.0,
            DType::BF16 => bf16::EPSILON.to_f64() / 2.0,
            DType::I32 => 0.0,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for i32 {}
}

/// A Rust type that a tensor can hold. Sealed: `f32`, `f16`, `bf16` and `i32`.
pub trait Element: sealed::Sealed + bytemuck::Pod + Send + Sync {
    /// The type's name at run time.
    const DTYPE: DType;
    /// The value as f64, exactly.
    fn to_f64(self) -> f64;
    /// The value as f32: exact but for integers beyond 2^24.
    fn to_f32(self) -> f32;
    /// The nearest value to a number; integers saturate.
    fn from_f64(value: f64) -> Self;
    /// The nearest value to a number; integers saturate.
    fn from_f32(value: f32) -> Self;
}

macro_rules! element {
    ($ty:ty, $dtype:ident, $to_f64:expr, $to_f32:expr, $from_f64:expr, $from_f32:expr) => {
        impl Element for $ty {
            const DTYPE: DType = DType::$dtype;
            #[inline]
            fn to_f64(self) -> f64 {
                $to_f64(self)
            }
            #[inline]
            fn to_f32(self) -> f32 {
                $to_f32(self)
            }
            #[inline]
            fn from_f64(value: f64) -> Self {
                $from_f64(value)
            }
            #[inline]
            fn from_f32(value: f32) -> Self {
                $from_f32(value)
            }
        }
    };
}

element!(f32, F32, f64::from, |x| x, |x| x as f32, |x| x);
element!(f16, F16, f16::to_f64, f16::to_f32, f16::from_f64, f16::from_f32);
element!(bf16, BF16, bf16::to_f64, bf16::to_f32, bf16::from_f64, bf16::from_f32);
element!(i32, I32, f64::from, |x| x as f32, |x: f64| x.round() as i32, |x: f32| x.round() as i32);
