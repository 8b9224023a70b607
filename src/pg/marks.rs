//! Notes that outlive a crash of the server: one small file, mapped by every process of ours.
//!
//! Shared memory is made anew after a crash, the aborted transaction never was, so a job that
//! takes the server down would be run again for ever. A slot therefore notes which job it starts;
//! writing a note is a store to memory, which the kernel keeps when the process dies. The file
//! stands where base backups leave it out (`pg_stat_tmp`, protocol BASE_BACKUP).

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering};

use super::datum::Micros;
use super::local::Local;
use super::mapped;
use crate::sys;

const PATH: &str = "pg_stat_tmp/my_worker.marks";

/// What one slot notes. All fields are written by the slot's own process, but for the flag of those
/// who cancel its job, and read by the launcher after a restart.
#[repr(C)]
pub struct Mark {
    /// The job that runs; 0 if none. Written last, cleared first.
    job: AtomicI64,
    database: AtomicU32,
    /// Executions that had ended before this one began.
    attempts: AtomicI32,
    /// Not zero if the process was told to go down because of another one.
    bystander: AtomicU32,
    /// What is more to say, in bits.
    flags: AtomicU32,
}

/// When the job of one slot's mark began. It stands behind all marks, so that these stay where earlier versions have them.
type Start = AtomicI64;

/// Behind both there is as much for notes that nobody has dealt with yet: the slots that left them note other jobs.
const KEPT: usize = 256;

/// The process was told to stop, and did.
const STOPPED: u32 = 1;
/// Somebody cancels the job, and was told so.
const CANCELLED: u32 = 2;
/// The job is a command.
const COMMAND: u32 = 4;
/// Its claim is committed: it runs next, or did.
const BEGUN: u32 = 8;

/// A note that was left behind.
#[derive(Clone, Copy)]
pub struct Left {
    /// Where it stands: the slot that left it, or a place behind all slots.
    place: usize,
    /// The job.
    pub job: i64,
    /// Its database.
    pub database: u32,
    /// Executions that had ended before the one that was cut off.
    pub attempts: i32,
    /// When that began; 0: not known.
    pub started: Micros,
    /// Whether the process went down because of another one.
    pub bystander: bool,
    /// Whether it was told to stop.
    pub stopped: bool,
    /// Whether somebody cancels the job.
    pub cancelled: bool,
    /// Whether the job is a command.
    pub command: bool,
    /// Whether its claim was committed, so that it may have run.
    pub begun: bool,
}

static MAP: Local<*mut Mark> = Local::new(std::ptr::null_mut());
static COUNT: Local<usize> = Local::new(0);
/// Whether this process has a note of its own; others' notes are not its to clear.
static NOTED: Local<bool> = Local::new(false);

/// Maps the file with room for `slots`; without it crashes are not counted, which the caller
/// reports. The working directory of every server process is the data directory.
pub fn open(slots: usize) -> std::io::Result<()> {
    if !MAP.get().is_null() {
        return Ok(());
    }
    let address = mapped::map(
        PATH,
        (slots + KEPT) * (size_of::<Mark>() + size_of::<Start>()),
    )?;
    MAP.set(address.cast());
    COUNT.set(slots);
    Ok(())
}

/// The mark at a place, and when its job began.
fn at(place: usize) -> Option<(&'static Mark, &'static Start)> {
    let (map, slots) = (MAP.get(), COUNT.get());
    let (begin, count, index) = match place.checked_sub(slots) {
        None => (0, slots, place),
        Some(kept) if kept < KEPT => (slots * (size_of::<Mark>() + size_of::<Start>()), KEPT, kept),
        Some(_) => return None,
    };
    // SAFETY: mapped for good: as many marks as slots, as many times, each of which is a multiple of eight bytes long,
    // and then KEPT of both; all of them are atomics.
    (!map.is_null()).then(|| unsafe {
        let marks = map.byte_add(begin);
        let starts = marks.add(count).cast::<Start>();
        (&*marks.add(index), &*starts.add(index))
    })
}

fn mark(slot: usize) -> Option<&'static Mark> {
    at(slot)
        .filter(|_| slot < COUNT.get())
        .map(|(mark, _)| mark)
}

/// What a slot notes of the job that it starts.
pub struct Noted {
    /// The job.
    pub job: i64,
    /// Its database.
    pub database: u32,
    /// Executions that had ended before.
    pub attempts: i32,
    /// When it begins.
    pub started: Micros,
    /// Whether the job is a command.
    pub is_command: bool,
}

/// Notes that the slot starts a job.
pub fn set(slot: usize, noted: &Noted) {
    if let Some((mark, start)) = at(slot) {
        NOTED.set(true);
        mark.database.store(noted.database, Ordering::Relaxed);
        mark.attempts.store(noted.attempts, Ordering::Relaxed);
        start.store(noted.started, Ordering::Relaxed);
        mark.bystander.store(0, Ordering::Relaxed);
        let flags = if noted.is_command { COMMAND } else { 0 };
        mark.flags.store(flags, Ordering::Relaxed);
        mark.job.store(noted.job, Ordering::Release);
    }
}

/// The claim of the command that this process has noted is committed.
pub fn begin(slot: usize) {
    if let Some(mark) = mark(slot).filter(|_| NOTED.get()) {
        mark.flags.fetch_or(BEGUN, Ordering::AcqRel);
    }
}

/// Clears this process's note, if it left one: its job is over, or was told to stop.
pub fn clear(slot: usize) {
    if let Some(mark) = mark(slot).filter(|_| NOTED.replace(false)) {
        mark.job.store(0, Ordering::Release);
    }
}

/// The attempts that this process noted of its job, and when the present one began.
pub fn noted(slot: usize) -> Option<(i32, Micros)> {
    let (mark, start) = at(slot).filter(|_| NOTED.get())?;
    Some((
        mark.attempts.load(Ordering::Relaxed),
        start.load(Ordering::Relaxed),
    ))
}

/// Leaves the note of a job behind that somebody cancels.
pub fn leave(slot: usize) {
    if mark(slot).is_some() {
        NOTED.set(false);
    }
}

/// Leaves the note behind with the word that the process was told to stop.
pub fn leave_stopped(slot: usize) {
    if let Some(mark) = mark(slot).filter(|_| NOTED.replace(false)) {
        mark.flags.fetch_or(STOPPED, Ordering::AcqRel);
    }
}

/// Notes for another process that its job is cancelled; called while it cannot go on to the next.
pub fn note_cancel(slot: usize, job: i64) {
    if let Some(mark) = mark(slot)
        && mark.job.load(Ordering::Acquire) == job
    {
        mark.flags.fetch_or(CANCELLED, Ordering::AcqRel);
    }
}

/// Clears a note of a former life, unless its slot has noted another job since.
pub fn clear_if_left(left: Left) {
    if let Some((mark, _)) = at(left.place) {
        let _ = mark
            .job
            .compare_exchange(left.job, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Moves the note that a former process left in the slot to a place of its own, before the next one notes its jobs
/// there: the keeper may not have dealt with it. Where there is no room it stays. Under the lock of what the
/// processes share, as two at once would take the same place.
pub fn keep(slot: usize) {
    let slots = COUNT.get();
    let Some((from, start)) = at(slot).filter(|_| slot < slots) else {
        return;
    };
    let job = from.job.load(Ordering::Acquire);
    let mut places = (slots..slots + KEPT).filter_map(at);
    let free = |(mark, _): &(&Mark, &Start)| mark.job.load(Ordering::Acquire) == 0;
    if job == 0 {
        return;
    }
    if let Some((to, began)) = places.find(free) {
        let copy = |to: &AtomicU32, from: &AtomicU32| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&to.database, &from.database);
        copy(&to.bystander, &from.bystander);
        copy(&to.flags, &from.flags);
        to.attempts
            .store(from.attempts.load(Ordering::Relaxed), Ordering::Relaxed);
        began.store(start.load(Ordering::Relaxed), Ordering::Relaxed);
        to.job.store(job, Ordering::Release);
        from.job.store(0, Ordering::Release);
    }
}

/// Clears the notes of a database's processes that were told to stop, or went down because of another
/// one, but for those of these commands: nothing is to be done about the others.
pub fn forget_told(database: u32, commands: &[i64]) {
    for left in left_behind() {
        let told = (left.stopped || left.bystander) && !left.cancelled;
        if told && left.database == database && !commands.contains(&left.job) {
            clear_if_left(left);
        }
    }
}

/// Clears the notes of databases that are gone.
pub fn forget_databases(is_gone: impl Fn(u32) -> bool) {
    let of_gone = |left: &Left| is_gone(left.database);
    left_behind()
        .into_iter()
        .filter(of_gone)
        .for_each(clear_if_left);
}

/// Has SIGQUIT, by which the postmaster ends the others after a crash, leave a word in the note.
pub fn excuse_on_quit(slot: usize) {
    if let Some(mark) = mark(slot) {
        // SAFETY: the flag lies in the mapping, which stays; the handler stores one word.
        unsafe { sys::mw_mark_bystander_on_quit(mark.bystander.as_ptr()) };
    }
}

/// What was left behind by processes that are gone.
pub fn left_behind() -> Vec<Left> {
    (0..COUNT.get() + KEPT)
        .filter_map(|place| {
            let (mark, start) = at(place)?;
            let job = mark.job.load(Ordering::Acquire);
            let flags = mark.flags.load(Ordering::Relaxed);
            (job != 0).then(|| Left {
                place,
                job,
                database: mark.database.load(Ordering::Relaxed),
                attempts: mark.attempts.load(Ordering::Relaxed),
                started: start.load(Ordering::Relaxed),
                bystander: mark.bystander.load(Ordering::Relaxed) != 0,
                stopped: flags & STOPPED != 0,
                cancelled: flags & CANCELLED != 0,
                command: flags & COMMAND != 0,
                begun: flags & BEGUN != 0,
            })
        })
        .collect()
}
