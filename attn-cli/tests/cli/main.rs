//! The command as a user calls it: what it prints, what it writes, how it ends.

mod command;
mod plot;
mod run;
mod simulator;
mod support;
