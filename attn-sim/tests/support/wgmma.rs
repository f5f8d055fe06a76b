//! Text of the `wgmma` wrappers: their register lists are too long to write by hand.
//!
//! A wrapper is chosen by the accumulator's type, as an overload: `wgmma_bf16_ss(d, a, b, accumulate)` with `float d[N / 2]` is
//! `m64nNk16` with both operands in shared memory, `..._rs` has A in four registers; `_at` and `_bt` say which operand in
//! shared memory has its rows (for B: its columns) contiguous instead of its depth.

use std::fmt::Write;

/// One wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wgmma {
    /// `f16` or `bf16`.
    pub element: &'static str,
    /// Columns of the accumulator: a multiple of 8 up to 256.
    pub n: usize,
    /// Whether A comes from registers.
    pub a_in_registers: bool,
    /// Whether A's rows are contiguous in shared memory.
    pub a_transposed: bool,
    /// Whether B's columns are contiguous in shared memory.
    pub b_transposed: bool,
}

impl Wgmma {
    /// bf16, both operands in shared memory with their depth contiguous.
    pub const fn shared(n: usize) -> Self {
        Self { element: "bf16", n, a_in_registers: false, a_transposed: false, b_transposed: false }
    }

    /// bf16, A in registers.
    pub const fn registers(n: usize) -> Self {
        Self { a_in_registers: true, ..Self::shared(n) }
    }

    /// The same with B's columns contiguous.
    pub const fn b_transposed(self) -> Self {
        Self { b_transposed: true, ..self }
    }

    /// The same with A's rows contiguous.
    pub const fn a_transposed(self) -> Self {
        Self { a_transposed: true, ..self }
    }

    /// The same with f16.
    pub const fn f16(self) -> Self {
        Self { element: "f16", ..self }
    }

    /// The overloaded name.
    pub fn name(&self) -> String {
        let kind = if self.a_in_registers { "rs" } else { "ss" };
        let a = if self.a_transposed { "_at" } else { "" };
        let b = if self.b_transposed { "_bt" } else { "" };
        format!("wgmma_{}_{kind}{a}{b}", self.element)
    }

    /// The function.
    pub fn text(&self) -> String {
        assert!(self.n.is_multiple_of(8) && (8..=256).contains(&self.n), "{self:?}");
        assert!(!(self.a_in_registers && self.a_transposed), "A in registers has its depth contiguous: {self:?}");
        let registers = self.n / 2;
        let list = |from: usize, count: usize| {
            let names: Vec<String> = (from..from + count).map(|operand| format!("%{operand}")).collect();
            format!("{{{}}}", names.join(", "))
        };
        let (a_type, a_operand, a_values, b) = if self.a_in_registers {
            let values: Vec<String> = (0..4).map(|i| format!("\"r\"(a[{i}])")).collect();
            ("const u32 (&a)[4]", list(registers, 4), values.join(", "), registers + 4)
        } else {
            ("u64 a", format!("%{registers}"), "\"l\"(a)".to_owned(), registers + 1)
        };
        let transposes = if self.a_in_registers {
            u32::from(self.b_transposed).to_string()
        } else {
            format!("{}, {}", u32::from(self.a_transposed), u32::from(self.b_transposed))
        };
        let accumulators: Vec<String> = (0..registers).map(|i| format!("\"+f\"(d[{i}])")).collect();
        let mut text = String::new();
        let Self { element, n, .. } = self;
        writeln!(
            text,
            "DEVICE void {}(float (&d)[{registers}], {a_type}, u64 b, bool accumulate) {{\n    \
             asm volatile(\"{{ .reg .pred p; setp.ne.b32 p, %{}, 0;\\n\"\n        \
             \"wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{element}.{element} {}, {a_operand}, %{b}, p, 1, 1, {transposes}; }}\"\n        \
             : {}\n        : {a_values}, \"l\"(b), \"r\"((int)accumulate));\n}}",
            self.name(),
            b + 1,
            list(0, registers),
            accumulators.join(", "),
        )
        .expect("writing to a string");
        text
    }
}
