//! One line of a file of measurements.
//!
//! Invariant: a line of the run that is read is understood, or refused with its number and what to change; nothing is skipped.

use anyhow::{Error, Result, anyhow};
use serde_json::{Map, Value};

use super::{Case, Pass, Round};

/// A line whose run is known, and no more.
pub(super) struct Line<'a> {
    file: &'a str,
    number: usize,
    object: Map<String, Value>,
}

/// A line, understood.
pub(super) struct Row {
    pub(super) device: String,
    pub(super) peer: String,
    pub(super) what: What,
}

/// What a row is about; a case or yardstick that failed has no round.
pub(super) enum What {
    Case(Case, Option<Round>),
    Yardstick(String, Option<Round>),
    Memory,
}

/// All lines of a file; empty ones are none.
pub(super) fn lines<'a>(text: &str, file: &'a str) -> Result<Vec<Line<'a>>> {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    numbered
        .map(|(at, line)| {
            let object = serde_json::from_str::<Map<String, Value>>(line);
            let object = object.map_err(|error| {
                let number = at + 1;
                anyhow!("{file}:{number}: not a JSON object ({error}); a line is one row: mend it or take it out")
            })?;
            Ok(Line { file, number: at + 1, object })
        })
        .collect()
}

impl Line<'_> {
    /// The id of its run. Rows that were made without one belong to no run.
    pub(super) fn run(&self) -> Option<&str> {
        self.object.get("run")?.as_str()
    }

    /// An error at this line.
    pub(super) fn wrong(&self, what: &str) -> Error {
        anyhow!("{}:{}: {what}; mend the line or take it out", self.file, self.number)
    }

    fn text(&self, key: &str) -> Result<String> {
        match self.object.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.wrong(&format!("`{key}` is {other} and must be a text"))),
            None => Err(self.wrong(&format!("`{key}` is missing and must be a text"))),
        }
    }

    fn extent(&self, key: &str) -> Result<usize> {
        let expected = "a whole number above 0";
        let Some(value) = self.object.get(key) else {
            return Err(self.wrong(&format!("`{key}` is missing and must be {expected}")));
        };
        let extent = value.as_u64().and_then(|extent| usize::try_from(extent).ok()).filter(|&extent| extent > 0);
        extent.ok_or_else(|| self.wrong(&format!("`{key}` is {value} and must be {expected}")))
    }

    fn positive(&self, key: &str) -> Result<f64> {
        let Some(value) = self.object.get(key) else {
            return Err(self.wrong(&format!("`{key}` is missing: a time needs `ms` and `tflops`, a failure `error`")));
        };
        let number = value.as_f64().filter(|&number| number > 0.0 && number.is_finite());
        number.ok_or_else(|| self.wrong(&format!("`{key}` is {value} and must be a number above 0")))
    }

    fn round(&self) -> Result<Option<Round>> {
        if self.object.contains_key("error") {
            return Ok(None);
        }
        // An error that is no number, such as that of a NaN, is written as null.
        let error = self.object.get("err").map(|value| value.as_f64().unwrap_or(f64::NAN));
        Ok(Some(Round { ms: self.positive("ms")?, tflops: self.positive("tflops")?, error }))
    }

    pub(super) fn parse(&self) -> Result<Row> {
        let (device, peer, variant) = (self.text("device")?, self.text("peer")?, self.text("variant")?);
        let pass = self.object.contains_key("pass").then(|| self.text("pass")).transpose()?;
        let pass = match pass.as_deref() {
            None => None,
            Some("memory") => return Ok(Row { device, peer, what: What::Memory }),
            Some(name) => Some(
                Pass::BOTH
                    .into_iter()
                    .find(|pass| pass.name() == name)
                    .ok_or_else(|| self.wrong(&format!("`pass` is \"{name}\" and must be fwd, bwd or memory")))?,
            ),
        };
        let what = match pass {
            None => What::Yardstick(variant, self.round()?),
            Some(pass) => {
                let [batch, heads] = [self.extent("b")?, self.extent("h")?];
                let [length, head_dim] = [self.extent("s")?, self.extent("d")?];
                let case = Case { variant, pass, length, head_dim, dtype: self.text("dtype")?, batch, heads };
                What::Case(case, self.round()?)
            }
        };
        Ok(Row { device, peer, what })
    }
}
