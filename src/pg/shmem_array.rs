//! Shared memory whose size a setting decides: a head and so many entries under one LWLock, and one
//! number that anybody may read without it.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::AtomicU64;

use super::local::Local;
use super::shmem::{Held, Zeroed};
use crate::sys;

/// A head and entries in shared memory, with their lock.
pub struct SharedArray<H: Zeroed, E: Zeroed> {
    name: &'static CStr,
    count: Local<usize>,
    number: Local<*const AtomicU64>,
    head: Local<*mut H>,
    entries: Local<*mut E>,
    lock: Local<*mut sys::LWLock>,
}

impl<H: Zeroed, E: Zeroed> SharedArray<H, E> {
    /// Name of the segment and of the lock's tranche.
    pub const fn new(name: &'static CStr) -> Self {
        SharedArray {
            name,
            count: Local::new(0),
            number: Local::new(ptr::null()),
            head: Local::new(ptr::null_mut()),
            entries: Local::new(ptr::null_mut()),
            lock: Local::new(ptr::null_mut()),
        }
    }

    /// Where the head begins, where the entries do, and how many bytes it takes in all. Each part begins
    /// on a cache line of its own.
    fn layout(count: usize) -> (usize, usize, usize) {
        let line = |bytes: usize| bytes.next_multiple_of(128);
        let head = line(size_of::<AtomicU64>());
        let entries = head + line(size_of::<H>());
        (head, entries, entries + count * size_of::<E>())
    }

    /// Asks for the memory and the lock. From the request hook only.
    pub fn request(&self, count: usize) {
        self.count.set(count);
        // SAFETY: called in the request hook, where the server allows it.
        unsafe {
            sys::RequestAddinShmemSpace(Self::layout(count).2);
            sys::RequestNamedLWLockTranche(self.name.as_ptr(), 1);
        }
    }

    /// Finds or creates the memory; true if it is new and zeroed. From the startup hook only.
    pub fn attach(&self) -> bool {
        let (head, entries, bytes) = Self::layout(self.count.get());
        let mut found = false;
        // SAFETY: called in the startup hook; the size is the one requested, and the parts lie in it.
        unsafe {
            let address = sys::mw_shmem_init(self.name.as_ptr(), bytes, &mut found).cast::<u8>();
            self.number.set(address.cast_const().cast());
            self.head.set(address.add(head).cast());
            self.entries.set(address.add(entries).cast());
            let tranche = sys::GetNamedLWLockTranche(self.name.as_ptr());
            self.lock.set(&raw mut (*tranche).lock);
        }
        !found
    }

    /// Whether the library was preloaded and the memory is there.
    pub fn is_attached(&self) -> bool {
        !self.head.get().is_null()
    }

    /// The number that anybody may read; `None` without preload.
    pub fn number(&self) -> Option<&'static AtomicU64> {
        // SAFETY: attached for good, and an atomic that nothing else overlaps.
        self.is_attached().then(|| unsafe { &*self.number.get() })
    }

    /// Reads under the lock, shared. `None` without preload. The closure copies out, and calls nothing of the
    /// server.
    pub fn read<R>(&self, f: impl FnOnce(&H, &[E]) -> R) -> Option<R> {
        self.is_attached().then(|| {
            let _held = Held::acquire(self.lock.get(), sys::LW_SHARED);
            // SAFETY: attached, so many entries follow the head, and no writer while the lock is held.
            unsafe {
                let entries = std::slice::from_raw_parts(self.entries.get(), self.count.get());
                f(&*self.head.get(), entries)
            }
        })
    }

    /// Changes under the lock, exclusive. `None` without preload. The closure copies in and out, and
    /// calls nothing of the server.
    pub fn write<R>(&self, f: impl FnOnce(&mut H, &mut [E]) -> R) -> Option<R> {
        self.is_attached().then(|| {
            let _held = Held::acquire(self.lock.get(), sys::LW_EXCLUSIVE);
            self.open(f)
        })
    }

    /// Changes without the lock, in the postmaster while it has no children: in the startup hook.
    pub fn alone<R>(&self, f: impl FnOnce(&mut H, &mut [E]) -> R) -> Option<R> {
        self.is_attached().then(|| self.open(f))
    }

    fn open<R>(&self, f: impl FnOnce(&mut H, &mut [E]) -> R) -> R {
        // SAFETY: attached, so many entries follow the head, and nobody else looks at either: the lock
        // is held, or there is no other process.
        unsafe {
            let entries = std::slice::from_raw_parts_mut(self.entries.get(), self.count.get());
            f(&mut *self.head.get(), entries)
        }
    }
}
