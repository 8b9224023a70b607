//! A value that belongs to this process. A PostgreSQL process has one thread that runs our code,
//! so a plain cell is enough; `thread_local!` would register destructors that nobody runs.

use std::cell::UnsafeCell;

/// A process-local cell: whole values in and out, or a closure that must not re-enter it.
pub struct Local<T>(UnsafeCell<T>);

// SAFETY: server processes run our code in their only thread; nothing here is shared by threads.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// A cell with its first value.
    pub const fn new(value: T) -> Self {
        Local(UnsafeCell::new(value))
    }

    /// Puts in a new value and drops the old one.
    pub fn set(&self, value: T) {
        drop(self.replace(value));
    }

    /// Puts in a new value and gives back the old one.
    pub fn replace(&self, value: T) -> T {
        // SAFETY: one thread, and no reference into the cell outlives a method.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    /// Looks at or changes the value. The closure makes no call that could come back here, and
    /// none into the server.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: one thread, and the closure does not re-enter, as this method demands.
        f(unsafe { &mut *self.0.get() })
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
