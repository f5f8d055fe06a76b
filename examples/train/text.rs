//! The text as numbers: a vocabulary of its characters, and batches of windows into it.
//!
//! The text is fifteen of Shakespeare's sonnets (1609, in the public domain) in modern spelling.

/// A text over the vocabulary of its characters.
pub(crate) struct Text {
    vocabulary: Vec<char>,
    tokens: Vec<usize>,
}

/// Windows of a text, one after the other, and for each character the one that follows it.
pub(crate) struct Batch {
    pub(crate) inputs: Vec<usize>,
    pub(crate) targets: Vec<usize>,
}

impl Text {
    pub(crate) fn sonnets() -> Text {
        Text::new(include_str!("sonnets.txt"))
    }

    fn new(text: &str) -> Text {
        let mut vocabulary: Vec<char> = text.chars().collect();
        vocabulary.sort_unstable();
        vocabulary.dedup();
        let token = |c| vocabulary.binary_search(&c).expect("the vocabulary has every character");
        Text { tokens: text.chars().map(token).collect(), vocabulary }
    }

    pub(crate) fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Windows from random places.
    pub(crate) fn batch(&self, count: usize, context: usize, random: &mut fastrand::Rng) -> Batch {
        let mut batch = Batch { inputs: Vec::new(), targets: Vec::new() };
        for _ in 0..count {
            let start = random.usize(..self.tokens.len() - context);
            batch.inputs.extend(&self.tokens[start..start + context]);
            batch.targets.extend(&self.tokens[start + 1..=start + context]);
        }
        batch
    }

    /// The first characters.
    pub(crate) fn beginning(&self, count: usize) -> &[usize] {
        &self.tokens[..count]
    }

    pub(crate) fn decode(&self, tokens: &[usize]) -> String {
        tokens.iter().map(|&token| self.vocabulary[token]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_characters_that_follow() {
        let text = Text::sonnets();
        let batch = text.batch(3, 20, &mut fastrand::Rng::with_seed(1));
        assert_eq!(batch.inputs.len(), 60);
        for window in 0..3 {
            let inputs = text.decode(&batch.inputs[20 * window..20 * (window + 1)]);
            let targets = text.decode(&batch.targets[20 * window..20 * (window + 1)]);
            assert_eq!(inputs[1..], targets[..19]);
        }
        assert!(text.decode(text.beginning(13)).starts_with("From fairest"));
    }
}
