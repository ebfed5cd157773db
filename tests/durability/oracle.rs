//! What is known of the server's state without asking it: pure, so that the oracle itself can be tested.

use std::fmt::Debug;

/// A value that the server keeps for us: certain, or one of a few while the answer to a change is open.
#[derive(Clone, Debug)]
pub(crate) struct Known<T> {
    possible: Vec<T>,
}

/// What may be known of a value before it was ever seen.
pub(crate) trait Fits {
    /// Whether `seen` is what this stands for.
    fn fits(&self, seen: &Self) -> bool;
}

impl<T: Fits + Clone + Debug> Known<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { possible: vec![value] }
    }

    /// The value, unless the answer to a change is open.
    pub(crate) fn sure(&self) -> Option<&T> {
        match &self.possible[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// A change to `next` is on its way: from now on both are possible.
    pub(crate) fn sent(&mut self, next: T) {
        self.possible.push(next);
    }

    /// The last change was acknowledged.
    pub(crate) fn acknowledged(&mut self) {
        self.possible.drain(..self.possible.len() - 1);
    }

    /// The last change was refused, so it was not made.
    pub(crate) fn refused(&mut self) {
        self.possible.pop();
    }

    /// The server says that it is `value`, which must be possible and is certain from then on.
    pub(crate) fn seen(&mut self, value: T) -> Result<(), String> {
        if !self.possible.iter().any(|possible| possible.fits(&value)) {
            return Err(format!("{value:?} was found where only {:?} may be", self.possible));
        }
        self.possible = vec![value];
        Ok(())
    }
}

/// A key as the oracle knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Key {
    Absent,
    /// The server chose its material and nobody has seen it yet.
    Unseen,
    /// The id is a digest of the material.
    Id(String),
}

impl Fits for Key {
    fn fits(&self, seen: &Self) -> bool {
        match self {
            Self::Unseen => matches!(seen, Self::Id(_)),
            known => known == seen,
        }
    }
}

impl<T: PartialEq> Fits for Option<T> {
    fn fits(&self, seen: &Self) -> bool {
        self == seen
    }
}

impl Fits for bool {
    fn fits(&self, seen: &Self) -> bool {
        self == seen
    }
}

/// xorshift64*: random enough to choose moments and changes, and the same again for the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % limit.max(1)
    }
}

#[test]
fn an_unanswered_change_leaves_two_possibilities_and_a_look_leaves_one() {
    let mut key = Known::new(Key::Absent);
    key.sent(Key::Unseen);
    assert!(key.sure().is_none());
    assert!(key.clone().seen(Key::Absent).is_ok());
    key.seen(Key::Id("a".into())).unwrap();
    assert_eq!(key.sure(), Some(&Key::Id("a".into())));
}

#[test]
fn a_lost_a_half_made_and_a_replaced_value_are_noticed() {
    let mut lost = Known::new(Key::Absent);
    lost.sent(Key::Unseen);
    lost.acknowledged();
    assert!(lost.seen(Key::Absent).is_err());
    let mut replaced = Known::new(Key::Id("a".into()));
    assert!(replaced.seen(Key::Id("b".into())).is_err());
    let mut half = Known::new(Some(1));
    half.sent(Some(2));
    assert!(half.clone().seen(None).is_err());
    half.refused();
    assert!(half.seen(Some(2)).is_err());
}
