//! Packed batches in the Hopper schedule, on the simulated GPU: boxes of tensor maps end with their sequence, whatever the next one
//! holds; blocks take tile after tile of sequences; a map that is not released or not acquired is found.

mod backward;
mod forward;

use attn::{Definition, Tensor};

/// One token, none of both and of either, tiles that are not whole, more than a tile.
const SEQUENCES: &[[usize; 2]] = &[[1, 1], [0, 0], [17, 40], [5, 0], [0, 9], [129, 140], [1, 33], [64, 128]];
/// Those that hold NaN: in front of, between and behind others.
const POISONED: [usize; 2] = [2, 6];

fn variant(text: &str) -> Definition {
    attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "packed.attn")))
}

/// The same tensor, NaN in the rows of some sequences.
fn poisoned(tensor: &Tensor, side: usize) -> Tensor {
    let (rows, columns) = (tensor.shape()[2], tensor.shape()[3]);
    let start = |sequence: usize| SEQUENCES[..sequence].iter().map(|lengths| lengths[side]).sum::<usize>();
    let within = |row: usize| POISONED.iter().any(|&poison| (start(poison)..start(poison + 1)).contains(&row));
    let values = tensor.to_f64_vec().unwrap().into_iter().enumerate();
    let values = values.map(|(at, value)| if within(at / columns % rows) { f64::NAN } else { value });
    Tensor::from_f64(tensor.dtype(), tensor.shape(), &values.collect::<Vec<_>>()).unwrap()
}

/// The rows of a tensor that are a sequence's: of queries (side 0) or keys (1).
fn of_sequence(tensor: &Tensor, side: usize, sequence: usize) -> Vec<f64> {
    let start: usize = SEQUENCES[..sequence].iter().map(|lengths| lengths[side]).sum();
    tensor.narrow(2, start, SEQUENCES[sequence][side]).unwrap().to_f64_vec().unwrap()
}
