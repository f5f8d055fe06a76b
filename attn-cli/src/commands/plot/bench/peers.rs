//! Programs that attention is timed of: what readers know them as, and their colours, which are the same in every picture.

use anyhow::{Result, bail};
use attn_cli::measurements::OURS;

use crate::commands::plot::canvas::Colour;

/// A program, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    /// In rows.
    pub(super) name: String,
    pub(super) label: String,
    pub(super) colour: Colour,
}

/// Name, label and colour, in the order of bars.
const KNOWN: [(&str, &str, Colour); 6] = [
    (OURS, "attn", Colour::Blue),
    ("cudnn", "cuDNN", Colour::Orange),
    ("fa4-cute", "FlashAttention-4 (CuTe)", Colour::Green),
    ("fa2", "FlashAttention-2", Colour::SkyBlue),
    ("flex-flash", "FlexAttention (FlashAttention-4)", Colour::Yellow),
    ("flex-triton", "FlexAttention (Triton)", Colour::Purple),
];
/// The colours that are left for others.
const OTHERS: [Colour; 1] = [Colour::Vermillion];

/// Peers by their names in rows, in the order of bars.
pub(super) fn peers<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Peer>> {
    let names: Vec<&str> = names.into_iter().collect();
    let known = KNOWN.iter().filter(|(name, ..)| names.contains(name));
    let mut peers: Vec<Peer> =
        known.map(|&(name, label, colour)| Peer { name: name.to_owned(), label: label.to_owned(), colour }).collect();
    let mut others: Vec<&str> = names.into_iter().filter(|name| KNOWN.iter().all(|known| known.0 != *name)).collect();
    others.sort_unstable();
    others.dedup();
    if others.len() > OTHERS.len() {
        bail!("there is no colour left for {}; give them one in {}", others.join(", "), file!());
    }
    peers.extend(others.into_iter().zip(OTHERS).map(|(name, colour)| Peer {
        name: name.to_owned(),
        label: name.to_owned(),
        colour,
    }));
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_colour() {
        let all = KNOWN.iter().map(|known| known.0).chain(["mine"]);
        let all = peers(all).unwrap();
        for (at, peer) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other.colour != peer.colour), "{}", peer.name);
        }
        let shown = peers(["mine", "fa2", "attn", "mine"]).unwrap();
        assert_eq!(
            shown.iter().map(|peer| peer.label.as_str()).collect::<Vec<_>>(),
            ["attn", "FlashAttention-2", "mine"]
        );
        let error = peers(["mine", "yours"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no colour left for mine, yours"), "{error}");
    }
}
