//! What names a compilation: every input that its result depends on, and nothing else.
//!
//! Source text is self-contained (it includes no file), so that source, name, target, options and the compiler's identity
//! are all of them. Fields are encoded with their lengths before them, so that no two different requests encode alike.

use std::fmt;

/// Separates these hashes from any other use of the hash function, and versions the encoding.
const DOMAIN: &str = "attn-kernel-v1";

/// A compilation to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRequest {
    /// The source text.
    pub source: String,
    /// How it is called in messages.
    pub file_name: String,
    /// The target, like `sm_90a`.
    pub target: String,
    /// The compiler's options, in order, the target's among them.
    pub options: Vec<String>,
}

impl KernelRequest {
    /// A request with [`default_options`](crate::cuda::default_options).
    pub fn new(source: impl Into<String>, file_name: impl Into<String>, target: impl Into<String>) -> Self {
        let target = target.into();
        let options = crate::cuda::default_options(&target);
        Self { source: source.into(), file_name: file_name.into(), target, options }
    }

    /// The same with one more option at the end.
    #[must_use]
    pub fn with_option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }
}

/// Which compiler makes the binary: two that might differ by one bit of output must differ here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompilerIdentity {
    /// The compiler's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What tells its builds apart.
    pub fingerprint: String,
}

/// The hash of a request and its compiler. It names the entry on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelKey([u8; 32]);

impl fmt::Display for KernelKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A request with its canonical encoding, which an entry on disk repeats in full.
#[derive(Clone, Debug)]
pub(crate) struct Identified {
    /// The encoding.
    pub(crate) encoding: Vec<u8>,
    /// Its hash.
    pub(crate) key: KernelKey,
}

impl Identified {
    pub(crate) fn new(request: &KernelRequest, compiler: &CompilerIdentity) -> Self {
        let mut encoding = Vec::with_capacity(request.source.len() + 256);
        let mut field = |text: &str| {
            encoding.extend((text.len() as u64).to_le_bytes());
            encoding.extend(text.as_bytes());
        };
        for text in [DOMAIN, &compiler.name, &compiler.version, &compiler.fingerprint, &request.target] {
            field(text);
        }
        field(&request.options.len().to_string());
        request.options.iter().for_each(|option| field(option));
        field(&request.file_name);
        field(&request.source);
        let key = KernelKey(*blake3::hash(&encoding).as_bytes());
        Self { encoding, key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler() -> CompilerIdentity {
        CompilerIdentity { name: "nvrtc".into(), version: "13.0".into(), fingerprint: "f".into() }
    }

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let base = KernelRequest {
            source: "s".into(),
            file_name: "f".into(),
            target: "sm_80".into(),
            options: vec!["a".into(), "b".into()],
        };
        let requests = [
            base.clone(),
            KernelRequest { source: "t".into(), ..base.clone() },
            KernelRequest { file_name: "g".into(), ..base.clone() },
            KernelRequest { target: "sm_86".into(), ..base.clone() },
            KernelRequest { options: vec!["b".into(), "a".into()], ..base.clone() },
            KernelRequest { options: vec!["ab".into()], ..base.clone() },
            KernelRequest { options: vec!["a".into()], file_name: "bf".into(), ..base.clone() },
            KernelRequest { options: vec!["a".into(), "b".into(), String::new()], ..base.clone() },
            KernelRequest { file_name: "fs".into(), source: String::new(), ..base.clone() },
            base.clone().with_option("c"),
        ];
        let mut keys: Vec<KernelKey> =
            requests.iter().map(|request| Identified::new(request, &compiler()).key).collect();
        for identity in [
            CompilerIdentity { name: "other".into(), ..compiler() },
            CompilerIdentity { version: "13.1".into(), ..compiler() },
            CompilerIdentity { fingerprint: "g".into(), ..compiler() },
            CompilerIdentity { version: "13.0f".into(), fingerprint: String::new(), ..compiler() },
        ] {
            keys.push(Identified::new(&base, &identity).key);
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn keys_are_the_same_in_every_process() {
        let request = KernelRequest::new("extern \"C\" __global__ void k() {}", "k.cu", "sm_90a");
        insta::assert_snapshot!(Identified::new(&request, &compiler()).key, @"48f0a439a70a6f1be02216085e0e3372c8c2bbebff0060772755d8258373b4a2");
    }
}
