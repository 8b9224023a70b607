//! What a test has armed: a small file that every process maps, so that it outlives a crash and one fault does not
//! become a loop of them.

use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::pg::error::{DISK_FULL, INVALID_PARAMETER_VALUE, PgError, Result, SqlState};
use crate::pg::guard::protect;
use crate::pg::local::Local;
use crate::pg::{bgworker, latch, mapped};
use crate::sys;

const PATH: &str = "pg_stat_tmp/my_worker.faults";

/// What an injected ERROR says: an error of the code that it happens in, not of the server.
const INJECTED: SqlState = SqlState::new(b"38000");

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The points, in the order in which a job meets them.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        const NAMES: &[&str] = &[$($text,)*];
    };
}

points! {
    /// After COMMIT of who has enqueued, before anybody is woken.
    Waking = "waking",
    /// The launcher begins.
    LauncherStart = "launcher_start",
    /// The launcher begins a turn of its loop.
    LauncherTurn = "launcher_turn",
    /// The launcher has taken a slot, and asks for a process.
    LauncherTakes = "launcher_takes",
    /// A process has attached to its slot, and connects to its database next.
    Attached = "attached",
    /// A process has a permit of a queue with a limit in shared memory; rows are still to be asked.
    Permitted = "permitted",
    /// A process holds the key of a job, and has not asked whether it is the job's turn.
    Keyed = "keyed",
    /// A job's row is locked; nothing is noted of it.
    Claimed = "claimed",
    /// A queue's rate has allowed a start.
    Granted = "granted",
    /// The function of a job's handler is known by name, and not made ready to be called.
    Found = "found",
    /// The job is noted on disk and in the slot; it is called next.
    Marked = "marked",
    /// A batch handler's jobs are deleted; it is called next.
    TakenAway = "taken_away",
    /// The handler has returned; its subtransaction is open.
    Called = "called",
    /// The last job of a stretch is taken away; its savepoint is open.
    StretchEnds = "stretch_ends",
    /// The job's subtransaction has ended; its end is not written.
    Sealed = "sealed",
    /// A failed attempt is about to be written.
    Failing = "failing",
    /// A job has moved to its queue's dead-letter queue.
    DeadLetter = "dead_letter",
    /// The end is written; the note still stands.
    Settled = "settled",
    /// All of the batch is written; COMMIT is next.
    Written = "written",
    /// The batch has committed; its permit, keys and slot are still held.
    Committed = "committed",
    /// The permit, the keys and the slot are given back; ends are not told.
    GivenBack = "given_back",
    /// A batch has failed, and a job of it is about to be charged.
    Blamed = "blamed",
    /// A command is charged, and its claim not committed.
    CommandClaimed = "command_claimed",
    /// The claim is committed; the command runs next.
    CommandCommitted = "command_committed",
    /// The command has run; its end is not written.
    CommandRan = "command_ran",
    /// The command's end is written, and the next one claimed; that is not committed.
    CommandChained = "command_chained",
    /// The command's end is committed, and told to nobody.
    CommandSettled = "command_settled",
    /// A dynamic worker was told that its caller has committed.
    Launched = "launched",
    /// `perform()` has called the handler.
    Performed = "performed",
    /// The keeper begins a look.
    Look = "look",
    /// The keeper's unblocker begins a step.
    Unblock = "unblock",
    /// Its finder.
    Find = "find",
    /// Its firer.
    Fire = "fire",
    /// Its reclaimer.
    Reclaim = "reclaim",
    /// Its releaser of runs of schedules.
    Release = "release",
    /// Its charger.
    Charge = "charge",
    /// Its sweep through dependencies.
    Sweep = "sweep",
    /// Its rerunner.
    Rerun = "rerun",
    /// Its settler.
    Settle = "settle",
    /// Its ender.
    End = "end",
    /// Its expirer.
    Expire = "expire",
    /// Its pruner.
    Prune = "prune",
    /// The keeper has dealt with a job; that is not committed.
    Dealt = "dealt",
    /// That is committed, and nothing else knows.
    DealtDone = "dealt_done",
    /// Blocked jobs are released; that is not committed.
    Unblocked = "unblocked",
    /// A due schedule has enqueued its jobs; that is not committed.
    Fired = "fired",
    /// The releaser has looked at all runs that wait, and does not watch yet what they wait for.
    Unwatched = "unwatched",
    /// A consumer's leases are published; their rows have not been looked at again.
    LeasePublished = "lease_published",
    /// The rows have been looked at again.
    LeaseSeen = "lease_seen",
    /// All of `receive()` is done but its answer.
    LeaseGiven = "lease_given",
    /// A lease is marked as ended by this transaction; its row is not locked.
    LeaseBegun = "lease_begun",
    /// The row of a lease that ends is locked.
    LeaseLocked = "lease_locked",
    /// The end of a lease's job is written; that is not committed.
    LeaseEnded = "lease_ended",
    /// A lease is given back by `release()`; that is not committed.
    LeaseReleased = "lease_released",
    /// A lease in a row lasts longer; that is not committed.
    LeaseExtended = "lease_extended",
    /// A transaction with leases has ended; shared memory does not say so.
    LeaseTold = "lease_told",
    /// A session with leases ends, and has not given them up.
    LeaseLost = "lease_lost",
}

const NOTHING: i32 = 0;
const ERROR: i32 = 1;
const FULL: i32 = 2;
const PANIC: i32 = 3;
const FATAL: i32 = 4;
const CRASH: i32 = 5;
const WAIT: i32 = 6;
const NAP: i32 = 7;
const ACTIONS: [(&str, i32); 7] = [
    ("error", ERROR),
    ("full", FULL),
    ("panic", PANIC),
    ("fatal", FATAL),
    ("crash", CRASH),
    ("wait", WAIT),
    ("nap", NAP),
];

/// What is armed at one point.
#[repr(C)]
struct Armed {
    action: AtomicI32,
    /// How many more times.
    times: AtomicI32,
    /// How often it happened since it was armed.
    happened: AtomicI32,
    /// How many processes wait there.
    waiting: AtomicI32,
}

static MAP: Local<*mut Armed> = Local::new(std::ptr::null_mut());

/// The points as they stand in the file; the file is made by whoever is first.
fn armed() -> Result<&'static [Armed]> {
    let mut map = MAP.get();
    if map.is_null() {
        let made = mapped::map(PATH, NAMES.len() * size_of::<Armed>());
        map = made
            .map_err(|error| PgError::internal(&error.to_string()))?
            .cast();
        MAP.set(map);
    }
    // SAFETY: mapped for good with so many of them, all atomics.
    Ok(unsafe { std::slice::from_raw_parts(map, NAMES.len()) })
}

/// What is to happen at this point now, if anything: one time less is left then.
fn take(point: Point) -> (Option<&'static Armed>, i32) {
    let Some(armed) = armed().ok().and_then(|all| all.get(point as usize)) else {
        return (None, NOTHING);
    };
    let less = |times| (times > 0).then(|| times - 1);
    let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
    if armed.times.fetch_update(acquire, relaxed, less).is_err() {
        return (None, NOTHING);
    }
    armed.happened.fetch_add(1, Ordering::AcqRel);
    (Some(armed), armed.action.load(Ordering::Acquire))
}

fn name(point: Point) -> &'static str {
    NAMES.get(point as usize).copied().unwrap_or_default()
}

/// Does what a test has armed for this point.
pub fn at(point: Point) -> Result<()> {
    let (armed, action) = take(point);
    match action {
        ERROR => Err(PgError::new(INJECTED, format!("fault at {}", name(point)))),
        FULL => Err(PgError::new(DISK_FULL, format!("fault at {}", name(point)))),
        FATAL => fatal(point),
        WAIT => {
            let waits = armed.map(Waits::begin);
            while waits.as_ref().is_some_and(Waits::goes_on) {
                latch::check_for_interrupts()?;
            }
            hear()
        }
        _ => {
            panic_or_crash(point, action);
            Ok(())
        }
    }
}

/// Hears of what others have changed in the catalogs meanwhile, as whoever locks a table does.
fn hear() -> Result<()> {
    // SAFETY: within a transaction, in which any look-up may do so.
    protect(|| unsafe {
        if sys::IsTransactionState() {
            sys::AcceptInvalidationMessages();
        }
    })
}

/// The same where nothing may be raised.
pub fn here(point: Point) {
    let (armed, action) = take(point);
    if action == WAIT {
        let waits = armed.map(Waits::begin);
        while waits.as_ref().is_some_and(Waits::goes_on) {}
    } else {
        panic_or_crash(point, action);
    }
}

#[allow(clippy::panic, reason = "it is what a test has asked for")]
fn panic_or_crash(point: Point, action: i32) {
    match action {
        PANIC => std::panic::panic_any(format!("fault at {}", name(point))),
        CRASH => {
            bgworker::signal(bgworker::my_pid(), libc::SIGKILL);
            // The signal may take a moment.
            sleep(Duration::from_secs(10));
        }
        NAP => sleep(Duration::from_millis(100)),
        _ => {}
    }
}

/// Does not return: the process ends.
fn fatal(point: Point) -> Result<()> {
    let text = crate::pg::guard::text(format!("fault at {}", name(point)).as_bytes());
    let (level, code, text) = (sys::FATAL as i32, INJECTED.0, text.as_ptr());
    let nothing = std::ptr::null();
    // SAFETY: the string lives for the call.
    protect(|| unsafe { sys::mw_report(level, code, text, nothing, nothing) })
}

/// A process that waits at a point.
struct Waits(&'static Armed);

impl Waits {
    fn begin(armed: &'static Armed) -> Self {
        armed.waiting.fetch_add(1, Ordering::AcqRel);
        Waits(armed)
    }

    /// Sleeps a little; false once the point is not armed with a wait any more.
    fn goes_on(&self) -> bool {
        sleep(Duration::from_millis(2));
        self.0.action.load(Ordering::Acquire) == WAIT
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A word of a test: `points`, `happened POINT`, `waiting POINT`, `clear [POINT]`, or `POINT ACTION [TIMES]`.
pub fn command(words: &str) -> Result<String> {
    let all = armed()?;
    let find = |wanted: &str| {
        let index = NAMES.iter().position(|name| *name == wanted);
        let wrong = || PgError::new(INVALID_PARAMETER_VALUE, format!("no point \"{wanted}\""));
        index.and_then(|index| all.get(index)).ok_or_else(wrong)
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let (point, action, times) = match words.as_slice() {
        ["points"] => return Ok(NAMES.join(" ")),
        ["happened", point] => {
            return Ok(find(point)?.happened.load(Ordering::Acquire).to_string());
        }
        ["waiting", point] => return Ok(find(point)?.waiting.load(Ordering::Acquire).to_string()),
        ["clear"] => {
            all.iter().for_each(|armed| arm(armed, NOTHING, 0));
            return Ok(String::new());
        }
        ["clear", point] => {
            arm(find(point)?, NOTHING, 0);
            return Ok(String::new());
        }
        [point, action] => (*point, *action, "1"),
        [point, action, times] => (*point, *action, *times),
        _ => ("", "", ""),
    };
    let known = ACTIONS.iter().find(|(name, _)| *name == action);
    let (Some((_, action)), Ok(times)) = (known, times.parse()) else {
        return Err(PgError::new(INVALID_PARAMETER_VALUE, "no such fault"));
    };
    arm(find(point)?, *action, times);
    Ok(String::new())
}

fn arm(armed: &Armed, action: i32, times: i32) {
    armed.times.store(0, Ordering::Release);
    armed.action.store(action, Ordering::Release);
    if action == NOTHING {
        return;
    }
    armed.happened.store(0, Ordering::Release);
    armed.waiting.store(0, Ordering::Release);
    armed.times.store(times, Ordering::Release);
}
