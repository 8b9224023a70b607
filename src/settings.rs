//! Every setting of ours: name, unit, range, context and its one line of text.
//!
//! The launcher, the workers and SQL functions read them as values in force; SIGHUP reaches them
//! at the top of each loop (`guc::reload_if_asked`).

use std::ffi::CStr;

use crate::logic::names::{self, Names};
use crate::pg::error::Result;
use crate::pg::guc::{
    self, About, END_OF_OPTIONS, Options, Refused, Setting, TextCheck, TextSetting, Unit, When,
    option,
};
use crate::pg::local::Local;

/// `my_worker.naptime`, seconds: the longest sleep between two looks at the queue.
pub static NAPTIME: Setting<i32> = Setting::new(10);
/// `my_worker.max_items`: the most jobs of one round.
pub static MAX_ITEMS: Setting<i32> = Setting::new(100);
/// `my_worker.max_workers`: the most workers of the pool.
pub static MAX_WORKERS: Setting<i32> = Setting::new(4);
/// `my_worker.max_workers_per_role`: the most workers of one role; 0: as many as there are.
pub static MAX_WORKERS_PER_ROLE: Setting<i32> = Setting::new(0);
/// `my_worker.max_waiting_per_role`: the most jobs of one role in the queue; 0: no limit.
pub static MAX_WAITING_PER_ROLE: Setting<i32> = Setting::new(0);
/// `my_worker.max_leases`: the most jobs that sessions of consumers hold at a time.
pub static MAX_LEASES: Setting<i32> = Setting::new(20_000);
/// `my_worker.max_rate_keys`: the most keys with a rate of their own that are at work at a time.
pub static MAX_RATE_KEYS: Setting<i32> = Setting::new(20_000);
/// `my_worker.worker_idle_timeout`, seconds: how long an idle worker stays.
pub static IDLE_TIMEOUT: Setting<i32> = Setting::new(60);
/// `my_worker.enabled`
pub static ENABLED: Setting<bool> = Setting::new(true);
/// `my_worker.run_copies`
pub static RUN_COPIES: Setting<bool> = Setting::new(false);
/// `my_worker.superuser_jobs`
pub static SUPERUSER_JOBS: Setting<bool> = Setting::new(true);
/// `my_worker.log_jobs`, one of the `LOG_` constants.
pub static LOG_JOBS: Setting<i32> = Setting::new(LOG_ERRORS);
/// `my_worker.log_messages`
pub static LOG_MESSAGES: Setting<bool> = Setting::new(false);
/// `my_worker.clock_offset`, seconds: for tests.
pub static CLOCK_OFFSET: Setting<i32> = Setting::new(0);
static DATABASE: TextSetting = Setting::new(std::ptr::null_mut());

/// The server is starting, and the settings of its configuration are taken over.
static STARTING: Local<bool> = Local::new(false);
/// The server started with a `my_worker.database` that cannot be meant. The server goes on with the
/// default then, which nobody has asked for: nothing is served.
static NOTHING_SERVED: Local<bool> = Local::new(false);

/// Which texts `my_worker.database` may have.
struct DatabaseList;

impl TextCheck for DatabaseList {
    fn check(value: &[u8]) -> std::result::Result<(), Refused> {
        names::parse_list(value).map(|_| ()).map_err(|error| {
            if STARTING.get() {
                NOTHING_SERVED.set(true);
            }
            Refused {
                detail: error.to_string().into_bytes(),
                hint: error.hint(),
            }
        })
    }
}

/// Log no job.
pub const LOG_NONE: i32 = 0;
/// Log failed attempts.
pub const LOG_ERRORS: i32 = 1;
/// Log every job.
pub const LOG_ALL: i32 = 2;

static LOG_OPTIONS: Options<4> = Options([
    option(c"none", LOG_NONE),
    option(c"errors", LOG_ERRORS),
    option(c"all", LOG_ALL),
    END_OF_OPTIONS,
]);

/// Defines all settings. Without preload the server takes no new setting that only a restart may
/// change; those follow a reload then, and nothing reads them.
pub fn define(preloading: bool) -> Result<()> {
    let restart = if preloading {
        When::Restart
    } else {
        When::Reload
    };
    define_served(preloading, restart)?;
    define_limits(restart)?;
    define_times()?;
    define_log()?;
    guc::reserve_prefix(c"my_worker")
}

fn about(name: &'static CStr, text: &'static CStr, more: &'static CStr, when: When) -> About {
    About {
        name,
        text,
        more,
        when,
    }
}

/// Whose jobs run.
fn define_served(preloading: bool, restart: When) -> Result<()> {
    STARTING.set(preloading);
    let defined = guc::define_text::<DatabaseList>(
        about(
            c"my_worker.database",
            c"Sets the database whose jobs are run.",
            c"One name, a comma-separated list, or * for every database that has the extension.",
            restart,
        ),
        &DATABASE,
        c"postgres",
    );
    STARTING.set(false);
    defined?;
    guc::define_bool(
        about(
            c"my_worker.enabled",
            c"Enables the running of jobs.",
            c"When off, running jobs end and nothing new starts.",
            When::Reload,
        ),
        &ENABLED,
    )?;
    guc::define_bool(
        about(
            c"my_worker.run_copies",
            c"Runs jobs also in a copy of a database.",
            c"When off, nothing runs in a copy before my_worker.adopt() has made it the home of its jobs.",
            When::Reload,
        ),
        &RUN_COPIES,
    )?;
    guc::define_bool(
        about(
            c"my_worker.superuser_jobs",
            c"Allows jobs that are owned by superusers.",
            c"",
            restart,
        ),
        &SUPERUSER_JOBS,
    )?;
    Ok(())
}

/// How many jobs.
fn define_limits(restart: When) -> Result<()> {
    guc::define_int(
        about(
            c"my_worker.max_workers",
            c"Sets how many jobs may run at once in the server.",
            c"Each takes one of max_worker_processes. One more serves roles that run nothing while all these are in long jobs.",
            When::Reload,
        ),
        &MAX_WORKERS,
        (1, 128),
        Unit::None,
    )?;
    guc::define_int(
        about(
            c"my_worker.max_workers_per_role",
            c"Sets how many jobs of one role may run at once in the server.",
            c"0 means no limit but max_workers.",
            When::Reload,
        ),
        &MAX_WORKERS_PER_ROLE,
        (0, 128),
        Unit::None,
    )?;
    guc::define_int(
        about(
            c"my_worker.max_waiting_per_role",
            c"Sets the most jobs of one role that may be in the queue of a database.",
            c"0 means no limit.",
            When::Reload,
        ),
        &MAX_WAITING_PER_ROLE,
        (0, i32::MAX),
        Unit::None,
    )?;
    guc::define_int(
        about(
            c"my_worker.max_leases",
            c"Sets the most jobs that sessions of consumers may hold at a time in the server.",
            c"Each takes some 110 bytes of shared memory. A lease for a length of time counts until its receipt commits.",
            restart,
        ),
        &MAX_LEASES,
        (100, 1_000_000),
        Unit::None,
    )?;
    define_rate_keys(restart)?;
    guc::define_int(
        about(
            c"my_worker.max_items",
            c"Sets the most jobs that one worker takes in one round.",
            c"",
            When::Reload,
        ),
        &MAX_ITEMS,
        (1, 10_000),
        Unit::None,
    )?;
    Ok(())
}

fn define_rate_keys(restart: When) -> Result<()> {
    guc::define_int(
        about(
            c"my_worker.max_rate_keys",
            c"Sets the most keys of jobs that may be at work at a time in queues with rate_per_key.",
            c"Each takes 72 bytes of shared memory. Where all are in use, jobs of other keys wait.",
            restart,
        ),
        &MAX_RATE_KEYS,
        (100, 1_000_000),
        Unit::None,
    )
}

/// How long processes sleep, and what time it is for schedules.
fn define_times() -> Result<()> {
    guc::define_int(
        about(
            c"my_worker.naptime",
            c"Sets the longest sleep between two looks at the queue.",
            c"A safety net: commits and due times wake workers at once.",
            When::Reload,
        ),
        &NAPTIME,
        (1, 3600),
        Unit::Seconds,
    )?;
    guc::define_int(
        about(
            c"my_worker.worker_idle_timeout",
            c"Sets how long an idle worker stays.",
            c"",
            When::Reload,
        ),
        &IDLE_TIMEOUT,
        (0, 86_400),
        Unit::Seconds,
    )?;
    guc::define_int(
        about(
            c"my_worker.clock_offset",
            c"Moves the clock that schedules go by.",
            c"For tests of schedules: jobs and everything else keep the real time.",
            When::Reload,
        ),
        &CLOCK_OFFSET,
        (i32::MIN, i32::MAX),
        Unit::Seconds,
    )?;
    Ok(())
}

/// What the log says.
fn define_log() -> Result<()> {
    guc::define_choice(
        about(
            c"my_worker.log_jobs",
            c"Sets which jobs are logged.",
            c"Log lines name id, queue and handler, never the payload.",
            When::Reload,
        ),
        &LOG_JOBS,
        &LOG_OPTIONS,
    )?;
    guc::define_bool(
        about(
            c"my_worker.log_messages",
            c"Logs the messages of jobs' errors.",
            c"They may quote what jobs work with; without it the log has their SQLSTATE alone.",
            When::Reload,
        ),
        &LOG_MESSAGES,
    )?;
    Ok(())
}

/// Which databases are served.
pub enum Served {
    /// Every one that has the extension.
    All,
    /// These names.
    Named(Vec<Vec<u8>>),
}

/// `my_worker.database`, taken apart.
pub fn served() -> Served {
    if NOTHING_SERVED.get() {
        return Served::Named(Vec::new());
    }
    match names::parse_list(&DATABASE.bytes()) {
        Ok(Names::All) => Served::All,
        Ok(Names::These(names)) => Served::Named(names),
        Err(_) => Served::Named(Vec::new()),
    }
}

/// `my_worker.database` was refused when the server started, and nothing is served.
pub fn list_was_refused() -> bool {
    NOTHING_SERVED.get()
}

/// Whether a database of this name is served.
pub fn serves(name: &[u8]) -> bool {
    match served() {
        Served::All => true,
        Served::Named(names) => names.iter().any(|n| n == name),
    }
}
