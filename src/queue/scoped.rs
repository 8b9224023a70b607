//! What the open transaction remembers until its end, by the subtransaction that brought it.

use crate::pg::xact;

/// A list whose elements share the fate of their subtransactions.
pub struct Scoped<T>(Vec<(u32, T)>);

impl<T> Scoped<T> {
    /// Nothing.
    pub const EMPTY: Self = Scoped(Vec::new());

    /// Adds one of the open subtransaction.
    pub fn push(&mut self, value: T) {
        self.0.push((xact::current_subtransaction(), value));
    }

    /// Those that the open subtransaction brought, the latest first.
    pub fn latest_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let current = xact::current_subtransaction();
        let own = self
            .0
            .iter_mut()
            .rev()
            .filter(move |(of, _)| *of == current);
        own.map(|(_, value)| value)
    }

    /// All of them, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What a subtransaction brought is its parent's from here on.
    pub fn adopt(&mut self, id: u32, parent: u32) {
        for entry in self.0.iter_mut().filter(|entry| entry.0 == id) {
            entry.0 = parent;
        }
    }

    /// Takes out what a subtransaction brought.
    pub fn split_off(&mut self, id: u32) -> Self {
        let all = std::mem::take(&mut self.0);
        let (gone, kept) = all.into_iter().partition(|(of, _)| *of == id);
        self.0 = kept;
        Scoped(gone)
    }
}
