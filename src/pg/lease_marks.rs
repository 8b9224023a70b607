//! Notes of leases that outlive a crash of the server: one file, mapped by every session that holds one.
//!
//! A session's lease writes nothing to a table, and shared memory is made anew after a crash. Which
//! sessions died by themselves is known all the same: the postmaster ends all others by SIGQUIT, which
//! leaves a word in the session's note. The leases of those without it are charged an attempt.
//!
//! The file stands where base backups leave it out (`pg_stat_tmp`, protocol BASE_BACKUP).

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

use super::local::Local;
use super::mapped;
use crate::sys;

const PATH: &str = "pg_stat_tmp/my_worker.leases";

/// What stands first: which start of the machine the notes are of. After another one they say nothing.
#[repr(C)]
struct Head {
    boot: AtomicU64,
}

/// What is noted of one lease. Written under the lock of the leases.
#[repr(C)]
struct Mark {
    /// The job; 0: none. Written last, cleared first.
    job: AtomicI64,
    table: AtomicU32,
    database: AtomicU32,
    /// Executions that had ended before this one began.
    attempts: AtomicI32,
    /// The session's process, by its number.
    procno: AtomicI32,
    /// Not zero: why the lease was lost, which is still to be charged.
    loss: AtomicU32,
    unused: AtomicU32,
}

/// A note of a lease.
#[derive(Clone, Copy)]
pub struct Noted {
    /// The job.
    pub job: i64,
    /// The table that it stands in.
    pub table: u32,
    /// Its database.
    pub database: u32,
    /// Executions that had ended before.
    pub attempts: i32,
    /// The session's process, by its number.
    pub procno: i32,
    /// Why the lease was lost; 0: it was not.
    pub loss: u32,
}

/// A lease that was left behind by a life of the server that is over, and is to be charged.
#[derive(Clone, Copy)]
pub struct Left {
    /// The lease.
    pub noted: Noted,
    /// Its session died by itself.
    pub crashed: bool,
}

static MAP: Local<*mut u8> = Local::new(std::ptr::null_mut());
/// How many leases there is room for, and how many processes the server has.
static LEASES: Local<usize> = Local::new(0);
static PROCESSES: Local<usize> = Local::new(0);

fn processes() -> usize {
    // SAFETY: set up before the startup hook, and constant since.
    unsafe { (*sys::ProcGlobal).allProcCount as usize }
}

/// Maps the file with room for `leases`; without it crashes are not charged.
pub fn open(leases: usize) -> std::io::Result<()> {
    if !MAP.get().is_null() {
        return Ok(());
    }
    let processes = processes();
    let length =
        size_of::<Head>() + processes * size_of::<AtomicU64>() + leases * size_of::<Mark>();
    let address = mapped::map(PATH, length)?;
    LEASES.set(leases);
    PROCESSES.set(processes);
    MAP.set(address);
    Ok(())
}

fn head() -> Option<&'static Head> {
    let map = MAP.get();
    // SAFETY: mapped for good, and begins with the head, all of it atomics.
    (!map.is_null()).then(|| unsafe { &*map.cast::<Head>() })
}

/// The word of a session; not zero: it went down because of another process.
fn word(procno: i32) -> Option<&'static AtomicU32> {
    let (map, index) = (MAP.get(), usize::try_from(procno).ok()?);
    // SAFETY: mapped for good; so many words follow the head, each at an address of eight bytes.
    (!map.is_null() && index < PROCESSES.get()).then(|| unsafe {
        &*map
            .add(size_of::<Head>() + index * size_of::<AtomicU64>())
            .cast::<AtomicU32>()
    })
}

fn mark(index: usize) -> Option<&'static Mark> {
    let map = MAP.get();
    let begin = size_of::<Head>() + PROCESSES.get() * size_of::<AtomicU64>();
    // SAFETY: mapped for good; so many marks follow the words, all of them atomics.
    (!map.is_null() && index < LEASES.get())
        .then(|| unsafe { &*map.add(begin).cast::<Mark>().add(index) })
}

/// The session begins to hold leases: its word is clear, and SIGQUIT sets it.
pub fn begin_session(procno: i32) {
    if let Some(word) = word(procno) {
        word.store(0, Ordering::Release);
        // SAFETY: the word lies in the mapping, which stays; the handler stores into it.
        unsafe { sys::mw_mark_session_on_quit(word.as_ptr()) };
    }
}

/// Notes a lease.
pub fn set(index: usize, noted: &Noted) {
    if let Some(mark) = mark(index) {
        mark.table.store(noted.table, Ordering::Relaxed);
        mark.database.store(noted.database, Ordering::Relaxed);
        mark.attempts.store(noted.attempts, Ordering::Relaxed);
        mark.procno.store(noted.procno, Ordering::Relaxed);
        mark.loss.store(noted.loss, Ordering::Relaxed);
        mark.job.store(noted.job, Ordering::Release);
    }
}

/// The lease was lost, and is still to be charged.
pub fn note_loss(index: usize, loss: u32) {
    if let Some(mark) = mark(index) {
        mark.loss.store(loss, Ordering::Release);
    }
}

/// The lease is over.
pub fn clear(index: usize) {
    if let Some(mark) = mark(index) {
        mark.job.store(0, Ordering::Release);
    }
}

/// The number of this start of the machine; 0 where it is not known.
fn boot() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.bytes().filter(u8::is_ascii_hexdigit);
    digits.fold(0u64, |hash, digit| {
        (hash ^ u64::from(digit)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// When the server starts, before there are sessions: what a former life has left behind that is to be
/// charged. All notes are cleared.
pub fn take_left_behind() -> Vec<Left> {
    let boot = boot();
    let same = head().is_some_and(|head| head.boot.swap(boot, Ordering::AcqRel) == boot);
    let mut left = Vec::new();
    for mark in (0..LEASES.get()).filter_map(mark) {
        let job = mark.job.swap(0, Ordering::AcqRel);
        if job == 0 || !same {
            continue;
        }
        let noted = Noted {
            job,
            table: mark.table.load(Ordering::Relaxed),
            database: mark.database.load(Ordering::Relaxed),
            attempts: mark.attempts.load(Ordering::Relaxed),
            procno: mark.procno.load(Ordering::Relaxed),
            loss: mark.loss.load(Ordering::Relaxed),
        };
        let crashed = word(noted.procno).is_some_and(|word| word.load(Ordering::Acquire) == 0);
        if noted.loss != 0 || crashed {
            left.push(Left { noted, crashed });
        }
    }
    left
}
