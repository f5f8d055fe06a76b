//! What the tests share: kernel texts, cases (a launch with its inputs and what it must give), attention workloads, and running
//! them in the simulator. The runtime's tests use the same lists on a GPU.

// every test program uses a part
#![allow(dead_code)]

pub mod attention;
pub mod case;
pub mod fixture;
pub mod primitives;
pub mod random;
pub mod simulator;
pub mod wgmma;
pub mod workload;
