//! What the tests share: kernel texts, cases (a launch with its inputs and what it must give), attention workloads, and running
//! them in the simulator. The runtime's tests use the same lists on a GPU.

// every test program uses a part
#![allow(dead_code)]

pub(crate) mod attention;
pub(crate) mod case;
pub(crate) mod fixture;
pub(crate) mod primitives;
pub(crate) mod random;
pub(crate) mod simulator;
pub(crate) mod wgmma;
pub(crate) mod workload;
