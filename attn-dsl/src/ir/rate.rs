//! The rate at which a value varies: which indices of the evaluation it depends on.

use super::Input;

/// A set of indices. The empty set is a constant of the launch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Rate(u8);

impl Rate {
    /// Varies with nothing but the launch.
    pub const UNIFORM: Rate = Rate(0);
    /// Varies with the batch index.
    pub const BATCH: Rate = Rate(1);
    /// Varies with the query head.
    pub const HEAD: Rate = Rate(2);
    /// Varies with the query position.
    pub const QUERY: Rate = Rate(4);
    /// Varies with the key position.
    pub const KEY: Rate = Rate(8);
    /// Varies with the data of the pair: a product of rows of q and k, or of dO and v.
    pub const PAIR_DATA: Rate = Rate(16);

    /// Varies with the tile of queries and keys.
    pub const TILE: Rate = Rate(32);

    /// The indices of both.
    #[must_use]
    pub fn union(self, other: Rate) -> Rate {
        Rate(self.0 | other.0)
    }

    /// Whether every index of `other` is in `self`.
    pub fn contains(self, other: Rate) -> bool {
        self.0 & other.0 == other.0
    }

    /// Constant within one tile of queries and keys of a batch and head; without [`Rate::TILE`] computed once a thread block.
    pub fn is_tile(self) -> bool {
        self.0 & (Self::QUERY.0 | Self::KEY.0 | Self::PAIR_DATA.0) == 0
    }

    /// Constant along the keys: computed once a query row. Includes what is constant within the tile.
    pub fn is_row(self) -> bool {
        self.0 & (Self::KEY.0 | Self::PAIR_DATA.0) == 0
    }

    /// Constant along the queries: computed once a key column. Includes what is constant within the tile.
    pub fn is_column(self) -> bool {
        self.0 & (Self::QUERY.0 | Self::PAIR_DATA.0) == 0
    }

    /// The rate of an input.
    pub fn of_input(input: Input) -> Rate {
        match input {
            Input::Product | Input::Score | Input::Probability | Input::OutputGradProduct => {
                Rate(Self::BATCH.0 | Self::HEAD.0 | Self::QUERY.0 | Self::KEY.0 | Self::PAIR_DATA.0)
            }
            Input::Batch => Self::BATCH,
            Input::Head => Self::HEAD,
            Input::Query => Self::QUERY,
            Input::Key => Self::KEY,
            Input::Scale | Input::HeadDim | Input::QueryLen | Input::KeyLen | Input::Size(_) => Self::UNIFORM,
            Input::LiveKeys
            | Input::Reduction(_)
            | Input::GreatestScore
            | Input::Shift
            | Input::Statistic
            | Input::ArgMax
            | Input::Delta
            | Input::Row(_) => Rate(Self::BATCH.0 | Self::HEAD.0 | Self::QUERY.0),
            Input::FirstQuery | Input::LastQuery | Input::FirstKey | Input::LastKey => Self::TILE,
        }
    }
}

impl std::fmt::Debug for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (Self::BATCH, "b"),
            (Self::HEAD, "h"),
            (Self::QUERY, "q"),
            (Self::KEY, "kv"),
            (Self::PAIR_DATA, "data"),
            (Self::TILE, "tile"),
        ];
        let parts: Vec<_> = names.iter().filter(|(r, _)| self.contains(*r)).map(|(_, n)| *n).collect();
        write!(f, "[{}]", parts.join(", "))
    }
}
