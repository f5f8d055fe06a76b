//! What is refused, and why. (What is accepted runs in the tests of `host`.)

use crate::translate::{TranslateError, translate};

/// The error for an asm statement with a few operands: %0 is 32 bits, %1 64, %2 a float, %3 16 bits, %4 a constant.
fn refused(template: &str) -> TranslateError {
    let source = format!("void f() {{\n asm(\"{template}\" : \"+r\"(a) : \"l\"(b), \"f\"(c), \"h\"(d), \"n\"(4)); }}");
    translate(&source).expect_err(template)
}

#[test]
fn unknown_instructions_are_named_with_their_line() {
    for instruction in [
        "tcgen05.alloc.b32 [%0], 32",
        "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%2, %2, %2, %2}, %1, %1, 1, 1, 1",
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %0}, {%0, %0, %0, %0}, {%0, %0}, {%0, %0}",
        "ld.local.f32 %2, [%1]",
        "mbarrier.pending_count.b64 %0, %1",
        "cvt.rz.f32.f64 %2, %1",
        "vote.sync.uni.pred %0, 1, -1",
        "cp.async.bulk.tensor.6d.global.shared::cta.bulk_group [%1, {%0}], [%0]",
        "fence.proxy.alias",
        "red.release.gpu.global.max.u32 [%1], %0",
        "atom.global.add.u64 %1, [%1], %1",
        "red.global.exch.b32 [%1], %0",
        "mapa.shared::cluster.u32 %0, %0, 1",
        "frobnicate",
    ] {
        let error = refused(&format!("{instruction};"));
        assert!(matches!(&error, TranslateError::UnknownInstruction { line: 2, .. }), "{instruction}: {error}");
        let first = instruction.split(' ').next().unwrap();
        assert!(error.to_string().contains(first), "{error}");
    }
}

#[test]
fn operands_must_fit() {
    for (instruction, reason) in [
        ("cp.async.cg.shared.global [%0], [%1], 8", "it copies 8 bytes; possible are [16]"),
        ("cp.async.cg.shared.global [%0], [%0], 16", "isn't a register of 64 bits"),
        ("cp.async.ca.shared.global [%0], %1, 4", "operand 2 must be an address in brackets"),
        ("bar.sync", "it has 0 operands"),
        ("bar.arrive 1", "it has 1 operands"),
        ("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %0}, [%0]", "operand 1 has 2 elements instead of 4"),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%1}, [%0]", "isn't a register of 32 bits"),
        ("ld.shared.v4.b64 {%1, %1, %1, %1}, [%0]", "at most 16 bytes"),
        ("ld.shared.u32 %3, [%0]", "a register is smaller than `u32`"),
        ("mov.b32 %1, %0", "isn't a register of 32 bits"),
        ("mov.b32 %4, 1", "isn't a register of 32 bits"),
        ("add.u32 %4, %0, %0", "can't be written"),
        ("add.u32 %0, %0, label", "doesn't know the register or name `label`"),
        ("mbarrier.arrive.shared::cta.b64 %1, [%0]", "no states of mbarriers"),
        ("mbarrier.try_wait.parity.shared::cta.b64 %0, [%0], 1", "one bit (a predicate)"),
        ("elect.sync %0, -1", "it writes `lane|predicate`"),
        ("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%1, {%0}], [%0]", "[map, {2 coordinates}]"),
        (
            "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%0}], [%0], %3",
            "needs clusters",
        ),
        ("shfl.sync.bfly.b32 %0, %0, 1, 0x10, -1", "segments that are whole"),
        ("wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%2}, %1, %1, 1, 1, 1, 0, 0", "multiple of 8"),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%2, %2, %2, %2}, %1, %1, 1, 1, 1, 0, 0",
            "constraint `+f`",
        ),
        ("bra NOWHERE", "no such label"),
        ("red.global.add.f32 [%0], %2", "adds to global memory only"),
        ("atom.acq_rel.gpu.add.u32 %0, [%0], 1", "counts in global memory only"),
        ("red.release.gpu.global.add.f32 [%1], %2", "acquires and releases by integers only"),
        ("ld.acquire.global.u32 %0, [%1]", "it needs a scope"),
        ("ld.release.gpu.global.u32 %0, [%1]", "it can't release"),
        ("st.acq_rel.gpu.global.u32 [%1], %0", "it can't acquire"),
        ("atom.global.cas.b32 %0, [%1], 1", "it has 3 operands"),
        ("createpolicy.fractional.L2::evict_last.b64", "operand 1 is missing"),
        ("st.shared.L2::cache_hint.u32", "the cache hint has no operand"),
    ] {
        let error = refused(&format!("{instruction};")).to_string();
        assert!(error.contains(reason), "{instruction}: {error}");
        assert!(error.starts_with("kernel.cu:2"), "{error}");
    }
}

#[test]
fn templates_must_parse() {
    for (template, reason) in [
        ("bar.sync 0", "PTX needs `;` at the end"),
        ("{ bar.sync 0;", "`{` without `}`"),
        ("bar.sync 0; }", "`}` without `{`"),
        ("bar.sync %9;", "no operand %9"),
        ("bar.sync %[id];", "no operand named id"),
        ("ld.shared.u32 %0, [%0;", "PTX needs `]`"),
        ("@%0 bar.sync 0;", "must be a predicate"),
        (".shared .b32 x;", "directive `.shared`"),
        (".reg .v4 x;", "no registers of type"),
        ("A: A: bar.sync 0;", "the label `A` is there twice"),
        ("bar.sync ?;", "`?` has no place"),
        ("bar.sync -x;", "only a number has a sign"),
        ("ld.shared.u32 %0, [%0 + %0];", "a register and a number"),
    ] {
        let error = refused(template).to_string();
        assert!(error.contains(reason), "{template}: {error}");
    }
}

#[test]
fn an_accumulator_in_flight_is_not_used() {
    let source = "void f() { asm(\"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %4, 1, 1, 1, 0, 0; \
                  add.f32 %0, %1, %1;\" : \"+f\"(a), \"+f\"(b), \"+f\"(c), \"+f\"(d) : \"l\"(x)); }";
    let error = translate(source).unwrap_err().to_string();
    assert!(error.contains("uses an accumulator of a wgmma that isn't finished"), "{error}");
}
