//! Every primitive in the simulator gives the bytes that a naive computation gives, at several seeds.

mod support;

use support::primitives::cases;
use support::simulator::{build, run};

#[test]
fn every_primitive_gives_the_expected_bytes() {
    let mut wrong = Vec::new();
    for case in cases() {
        let kernel = build(&case);
        for seed in 0..4 {
            match run(&case, &kernel, seed) {
                Ok(buffers) => wrong.extend(case.difference(&buffers).map(|text| format!("seed {seed}: {text}"))),
                Err(failure) => wrong.push(format!("{}: seed {seed}: {failure}", case.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
