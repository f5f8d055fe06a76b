//! What the `attn` command shares with the tests of what is published about it. The command itself is `main.rs`.

pub mod measurements;
