//! A value that belongs to this process. A PostgreSQL process has one thread that runs our code,
//! so a plain cell is enough; `thread_local!` would register destructors that nobody runs.

use std::cell::RefCell;

/// A process-local cell: whole values in and out, or a closure. A closure that comes back to its own
/// cell is a bug of ours and panics, which the calling statement gets as an ERROR.
pub struct Local<T>(RefCell<T>);

// SAFETY: server processes run our code in their only thread; nothing here is shared by threads.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// A cell with its first value.
    pub const fn new(value: T) -> Self {
        Local(RefCell::new(value))
    }

    /// Puts in a new value and drops the old one.
    pub fn set(&self, value: T) {
        drop(self.replace(value));
    }

    /// Puts in a new value and gives back the old one.
    pub fn replace(&self, value: T) -> T {
        self.0.replace(value)
    }

    /// Looks at or changes the value. The closure makes no call that could come back here, and
    /// none into the server, which could jump over the cell's mark that it is in use.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

impl<T: Copy> Local<T> {
    /// A copy of the value.
    pub fn get(&self) -> T {
        self.with(|value| *value)
    }
}

impl<T: Default> Local<T> {
    /// Takes the value out and leaves the default.
    pub fn take(&self) -> T {
        self.replace(T::default())
    }
}
