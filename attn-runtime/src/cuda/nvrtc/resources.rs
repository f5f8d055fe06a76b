//! What a kernel costs, read from the assembler's report (`--ptxas-options=-v`).

use std::fmt;

/// The resources of one kernel for one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceUsage {
    /// The kernel's name in the binary.
    pub kernel: String,
    /// The target, like `sm_90a`.
    pub target: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Stack of a thread in local memory, spills included.
    pub stack_bytes: u32,
    /// Bytes stored when registers run out.
    pub spill_store_bytes: u32,
    /// Bytes loaded back.
    pub spill_load_bytes: u32,
    /// Static shared memory of a block.
    pub static_shared_bytes: u32,
    /// Named barriers of a block.
    pub barriers: u32,
    /// The assembler's performance warnings (`C75..`: a serialised wgmma pipeline, for one).
    pub advisories: Vec<String>,
}

impl ResourceUsage {
    /// Reads every kernel of a log, in the log's order.
    ///
    /// A warning that names no kernel of the log is given to all of them: better one too many than one lost.
    pub fn parse_log(log: &str) -> Vec<Self> {
        let mut kernels: Vec<Self> = Vec::new();
        let mut advisories: Vec<&str> = Vec::new();
        // Device functions that are not inlined have properties of their own, which are not the kernel's.
        let mut described: Option<usize> = None;
        for line in log.lines() {
            if let Some(rest) = after(line, "Compiling entry function ") {
                let mut quoted = rest.split('\'').skip(1).step_by(2);
                let kernel = quoted.next().unwrap_or_default().to_owned();
                let target = quoted.next().unwrap_or_default().to_owned();
                kernels.push(Self { kernel, target, ..Self::default() });
                described = Some(kernels.len() - 1);
            } else if let Some(name) = after(line, "Function properties for ") {
                described = kernels.iter().rposition(|usage| usage.kernel == name.trim());
            } else if line.contains("bytes stack frame") {
                if let Some(usage) = described.and_then(|index| kernels.get_mut(index)) {
                    usage.stack_bytes = number_before(line, " bytes stack frame");
                    usage.spill_store_bytes = number_before(line, " bytes spill stores");
                    usage.spill_load_bytes = number_before(line, " bytes spill loads");
                }
            } else if line.contains("Used ") && line.contains(" registers") {
                if let Some(usage) = kernels.last_mut() {
                    usage.registers = number_before(line, " registers");
                    usage.barriers = number_before(line, " barriers");
                    usage.static_shared_bytes = number_before(line, " bytes smem");
                }
            } else if let Some(start) = line.find("(C7") {
                advisories.push(line[start..].trim_end());
            }
        }
        for advisory in advisories {
            let named = |usage: &Self| advisory.contains(&format!("'{}'", usage.kernel));
            let anywhere = !kernels.iter().any(named);
            for usage in kernels.iter_mut().filter(|usage| anywhere || named(usage)) {
                usage.advisories.push(advisory.to_owned());
            }
        }
        kernels
    }

    /// Whether registers ran out.
    pub fn spills(&self) -> bool {
        self.spill_store_bytes > 0 || self.spill_load_bytes > 0
    }
}

impl fmt::Display for ResourceUsage {
    /// One line, for snapshots; a further one for each advisory.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {}: {} registers, {} bytes stack, {} bytes spill stores, {} bytes spill loads, {} bytes static shared memory, {} barriers",
            self.kernel,
            self.target,
            self.registers,
            self.stack_bytes,
            self.spill_store_bytes,
            self.spill_load_bytes,
            self.static_shared_bytes,
            self.barriers
        )?;
        self.advisories.iter().try_for_each(|advisory| write!(formatter, "\n  {advisory}"))
    }
}

fn after<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    line.find(marker).map(|start| &line[start + marker.len()..])
}

/// The number that ends right before the marker; 0 where the marker is absent, as the assembler leaves out what is 0.
fn number_before(line: &str, marker: &str) -> u32 {
    let Some(end) = line.find(marker) else { return 0 };
    let digits = line[..end].bytes().rev().take_while(u8::is_ascii_digit).count();
    line[end - digits..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to non wgmma instructions defining accumulator registers in function 'backward'
ptxas info    : Compiling entry function 'backward' for 'sm_90a'
ptxas info    : Function properties for backward
ptxas         .     72 bytes stack frame, 56 bytes spill stores, 60 bytes spill loads
ptxas info    : Used 255 registers, used 3 barriers, 72 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 12.100 ms
ptxas info    : Compiling entry function 'forward' for 'sm_90a'
ptxas info    : Function properties for forward
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 168 registers, 400 bytes cmem[0]
ptxas info    : Function properties for helper
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
";

    #[test]
    fn kernels_and_their_advisories_are_read() {
        let usage = ResourceUsage::parse_log(LOG);
        let [backward, forward] = usage.as_slice() else { panic!("{usage:?}") };
        assert_eq!(
            *forward,
            ResourceUsage {
                kernel: "forward".into(),
                target: "sm_90a".into(),
                registers: 168,
                ..ResourceUsage::default()
            }
        );
        assert!(!forward.spills() && backward.spills());
        assert_eq!(backward.advisories.len(), 1);
        insta::assert_snapshot!(backward, @r"
        backward sm_90a: 255 registers, 72 bytes stack, 56 bytes spill stores, 60 bytes spill loads, 1024 bytes static shared memory, 3 barriers
          (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to non wgmma instructions defining accumulator registers in function 'backward'
        ");
    }

    #[test]
    fn an_advisory_without_a_name_reaches_every_kernel() {
        let log = format!("ptxas info : (C7519) Potential Performance Loss\n{LOG}");
        let counts: Vec<usize> = ResourceUsage::parse_log(&log).iter().map(|usage| usage.advisories.len()).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn other_text_holds_no_kernel() {
        assert!(ResourceUsage::parse_log("").is_empty());
        assert!(ResourceUsage::parse_log("Used 3 registers\n1 bytes stack frame\n").is_empty());
    }
}
