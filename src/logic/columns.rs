//! The columns of our tables, each declared once.
//!
//! From these lists follow the place of each column, how many there are, their types, the lists within
//! statements (`queue::lists`), what the history takes over and `retry()` brings back, what a caller may
//! set, and the check that a table still is as the extension made it (`pg::columns`). The tests compare them
//! with `sql/parts`.

mod derived;
mod kind;

use derived::{
    filled, given, given_count, in_jobs, live_before, live_columns, live_filled, past_before,
    past_columns, stored, table_names,
};
pub use kind::{Kind, Stored};

/// Whether a value is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Always: the column is NOT NULL.
    Always,
    /// Once the job has run.
    OnceRun,
    /// Or not.
    Maybe,
}

/// Who sets a column of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setter {
    /// The sequence of the table.
    Sequence,
    /// Whoever enqueues the job.
    Author,
    /// It is the role that enqueues the job.
    Caller,
    /// What enqueues the job, as it finds it: no caller may.
    Door,
    /// What runs the job and ends it: no caller may.
    Engine,
    /// The table itself, by its default: no caller may.
    Default,
}

/// What a column says in a job that `retry()` brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The same as before.
    Kept,
    /// What it says in a new job.
    Anew,
}

/// In which tables a column of a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// `_jobs` and `history`.
    Both,
    /// `_jobs` alone.
    Jobs,
    /// `history` alone.
    History,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it may be NULL.
    pub presence: Presence,
}

/// A column of `_jobs` or `history`, or of both.
#[derive(Clone, Copy, Debug)]
pub struct JobColumn {
    /// Name and type, the same in both.
    pub column: Column,
    /// See [`Setter`].
    pub setter: Setter,
    /// See [`Retried`].
    pub retried: Retried,
    /// See [`Home`].
    pub home: Home,
}

impl JobColumn {
    /// Whether it stands in `_jobs`.
    pub const fn is_live(&self) -> bool {
        matches!(self.home, Home::Both | Home::Jobs)
    }

    const fn is_past(&self) -> bool {
        matches!(self.home, Home::Both | Home::History)
    }

    /// Whether a statement that enqueues a job gives it.
    pub const fn is_given(&self) -> bool {
        self.is_live() && matches!(self.setter, Setter::Author | Setter::Caller | Setter::Door)
    }

    /// Whether a caller who writes a row of his own must leave it alone.
    pub const fn is_forbidden(&self) -> bool {
        self.is_live() && matches!(self.setter, Setter::Door | Setter::Engine | Setter::Default)
    }
}

/// A table of ours.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// As statements name it.
    pub name: &'static str,
    /// Its columns, in order.
    pub columns: &'static [Column],
    /// How they stand in a row.
    pub stored: &'static [Stored],
    /// Whether columns are read by their places. Where not, its owner may have put others between ours.
    pub is_read_by_place: bool,
}

/// Declares the columns of `_jobs` and `history`, in the order in which they stand there.
macro_rules! job_columns {
    ($($constant:ident $name:literal $kind:ident $presence:ident $setter:ident $retried:ident $home:ident;)*) => {
        /// The columns of `_jobs` and `history`.
        pub const JOB_COLUMNS: &[JobColumn] = &[$(JobColumn {
            column: Column { name: $name, kind: Kind::$kind, presence: Presence::$presence },
            setter: Setter::$setter,
            retried: Retried::$retried,
            home: Home::$home,
        }),*];

        /// Their turns in that list.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Turn { $($constant),* }

        /// The places of the columns of `_jobs`, from 1.
        pub mod job {
            use super::{JOB_COLUMNS, Turn, live_before};
            /// So many there are.
            pub const COUNT: usize = live_before(JOB_COLUMNS.len());
            $(place!(live_before $home $constant $name);)*
        }

        /// The places of the columns of `history`, from 1.
        #[allow(dead_code)]
        pub mod history {
            use super::{JOB_COLUMNS, Turn, past_before};
            /// So many there are.
            pub const COUNT: usize = past_before(JOB_COLUMNS.len());
            $(place!(past_before $home $constant $name);)*
        }
    };
}

macro_rules! place {
    (live_before History $constant:ident $name:literal) => {};
    (past_before Jobs $constant:ident $name:literal) => {};
    ($before:ident $home:ident $constant:ident $name:literal) => {
        #[doc = $name]
        pub const $constant: i32 = $before(Turn::$constant as usize) as i32 + 1;
    };
}

// constant     name            type        NULL?   set by   retry()  in both tables, or one (Jobs, History)
//
// A new one goes to the end, as ALTER TABLE puts it.
job_columns! {
    ID            "id"            Bigint      Always  Sequence Kept Both;
    QUEUE         "queue"         Text        Always  Author   Kept Both;
    STATUS        "status"        Text        Always  Engine   Anew Both;
    HANDLER       "handler"       Text        Maybe   Author   Kept Both;
    COMMAND       "command"       Text        Maybe   Author   Kept Both;
    PAYLOAD       "payload"       Jsonb       Always  Author   Kept Both;
    PRIORITY      "priority"      Integer     Always  Author   Kept Both;
    RUN_AT        "run_at"        Timestamptz Always  Author   Anew Both;
    CREATED_AT    "created_at"    Timestamptz Always  Engine   Kept Both;
    STARTED_AT    "started_at"    Timestamptz OnceRun Engine   Anew Both;
    ATTEMPTS      "attempts"      Integer     Always  Engine   Anew Both;
    MAX_ATTEMPTS  "max_attempts"  Integer     Maybe   Author   Kept Both;
    TIMEOUT       "timeout"       Interval    Maybe   Author   Kept Both;
    UNIQUE_KEY    "unique_key"    Text        Maybe   Author   Kept Both;
    OWNER         "owner"         Regrole     Always  Caller   Kept Both;
    LAST_ERROR    "last_error"    Text        Maybe   Engine   Kept Both;
    FINISHED_AT   "finished_at"   Timestamptz Always  Engine   Anew History;
    RESULT        "result"        Jsonb       Maybe   Engine   Anew History;
    ERRORS        "errors"        Jsonb       Maybe   Engine   Kept Both;
    HANDLER_OWNER "handler_owner" Regrole     Maybe   Door     Kept Both;
    KIND          "kind"          Text        Maybe   Author   Kept Both;
    HEADERS       "headers"       Jsonb       Maybe   Author   Kept Both;
    GROUP_KEY     "group_key"     Text        Maybe   Author   Kept Both;
    LEASE         "lease"         Bigint      Maybe   Engine   Anew Jobs;
    LEASE_RUN_AT  "lease_run_at"  Timestamptz Maybe   Engine   Anew Jobs;
    CONSUMER      "consumer"      Text        Maybe   Engine   Anew Jobs;
    HOME          "home"          Bigint      Always  Default  Anew Jobs;
    AFTER         "after"         Bigints     Maybe   Author   Kept Both;
    AFTER_FAILED  "after_failed"  Text        Maybe   Author   Kept Both;
    EXPIRES_AT    "expires_at"    Timestamptz Maybe   Author   Kept Both;
    ORIGIN        "origin"        Text        Maybe   Engine   Kept Both;
    SCHEDULE_ID   "schedule_id"   Bigint      Maybe   Door     Kept Both;
    RERUN         "rerun"         Boolean     Always  Engine   Anew Jobs;
}

/// Declares the columns of another table.
macro_rules! columns {
    ($columns:ident $module:ident: $($constant:ident $name:literal $kind:ident $presence:ident;)*) => {
        const $columns: &[Column] = &[$(Column {
            name: $name,
            kind: Kind::$kind,
            presence: Presence::$presence,
        }),*];

        #[doc = concat!("The places of the columns of `", stringify!($module), "`, from 1.")]
        #[allow(dead_code)]
        pub mod $module {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Turn { $($constant),* }
            $(
                #[doc = $name]
                pub const $constant: i32 = Turn::$constant as i32 + 1;
            )*
        }
    };
}

columns! {
    QUEUE_COLUMNS queue:
    NAME          "name"          Text        Always;
    HANDLER       "handler"       Text        Maybe;
    CONCURRENCY   "concurrency"   Integer     Maybe;
    MAX_ATTEMPTS  "max_attempts"  Integer     Always;
    BACKOFF       "backoff"       Interval    Always;
    BACKOFF_MAX   "backoff_max"   Interval    Always;
    TIMEOUT       "timeout"       Interval    Maybe;
    RETENTION     "retention"     Interval    Always;
    PAUSED        "paused"        Boolean     Always;
    CREATED_AT    "created_at"    Timestamptz Always;
    ID            "id"            Integer     Always;
    HANDLER_OWNER "handler_owner" Regrole     Maybe;
    PER_KEY            "per_key"            Integer  Maybe;
    FIFO               "fifo"               Boolean  Always;
    RATE               "rate"               Integer  Maybe;
    RATE_PERIOD        "rate_period"        Interval Maybe;
    BURST              "burst"              Integer  Always;
    RATE_PER_KEY       "rate_per_key"       Boolean  Always;
    DEAD_LETTER        "dead_letter"        Text     Maybe;
    JOBS_PER_SAVEPOINT "jobs_per_savepoint" Integer  Always;
    RETRY_ON           "retry_on"           Texts    Maybe;
    FAIL_ON            "fail_on"            Texts    Maybe;
}

columns! {
    SCHEDULE_COLUMNS schedule:
    ID               "id"               Bigint      Always;
    NAME             "name"             Text        Always;
    ACTIVE           "active"           Boolean     Always;
    NEXT_RUN_AT      "next_run_at"      Timestamptz Maybe;
    SCHEDULE         "schedule"         Text        Always;
    TIMEZONE         "timezone"         Text        Always;
    COMMAND          "command"          Text        Maybe;
    HANDLER          "handler"          Text        Maybe;
    PAYLOAD          "payload"          Jsonb       Always;
    QUEUE            "queue"            Text        Always;
    OVERLAP          "overlap"          Text        Always;
    CATCHUP          "catchup"          Text        Always;
    MAX_ATTEMPTS     "max_attempts"     Integer     Maybe;
    TIMEOUT          "timeout"          Interval    Maybe;
    ANCHOR           "anchor"           Timestamptz Always;
    LAST_DUE         "last_due"         Timestamptz Maybe;
    LAST_JOB_ID      "last_job_id"      Bigint      Maybe;
    LAST_ENQUEUED_AT "last_enqueued_at" Timestamptz Maybe;
    LAST_SKIPPED_AT  "last_skipped_at"  Timestamptz Maybe;
    LIVE_JOBS        "live_jobs"        Bigints     Always;
    HELD_JOBS        "held_jobs"        Bigints     Always;
    DISABLED_REASON  "disabled_reason"  Text        Maybe;
    OWNER            "owner"            Regrole     Always;
    CREATED_AT       "created_at"       Timestamptz Always;
    HANDLER_OWNER    "handler_owner"    Regrole     Maybe;
    HOME             "home"             Bigint      Always;
    RUNS             "runs"             Bigint      Always;
}

columns! {
    CONSUMER_COLUMNS consumer:
    QUEUE "queue" Text    Always;
    ROLE  "role"  Regrole Always;
}

columns! {
    DEPENDENCY_COLUMNS dependency:
    JOB   "job"   Bigint Always;
    AFTER "after" Bigint Always;
}

/// `my_worker._jobs`
pub const JOBS: Table = Table {
    name: "my_worker._jobs",
    columns: &live_columns(),
    stored: &stored::<{ job::COUNT }>(&live_columns()),
    is_read_by_place: true,
};

/// `my_worker.history`
pub const HISTORY: Table = Table {
    name: "my_worker.history",
    columns: &past_columns(),
    stored: &stored::<{ history::COUNT }>(&past_columns()),
    is_read_by_place: false,
};

/// `my_worker.queues`
pub const QUEUES: Table = Table {
    name: "my_worker.queues",
    columns: QUEUE_COLUMNS,
    stored: &stored::<{ QUEUE_COLUMNS.len() }>(QUEUE_COLUMNS),
    is_read_by_place: true,
};

/// `my_worker._schedules`
pub const SCHEDULES: Table = Table {
    name: "my_worker._schedules",
    columns: SCHEDULE_COLUMNS,
    stored: &stored::<{ SCHEDULE_COLUMNS.len() }>(SCHEDULE_COLUMNS),
    is_read_by_place: true,
};

/// `my_worker._consumers`
pub const CONSUMERS: Table = Table {
    name: "my_worker._consumers",
    columns: CONSUMER_COLUMNS,
    stored: &stored::<{ CONSUMER_COLUMNS.len() }>(CONSUMER_COLUMNS),
    is_read_by_place: true,
};

/// `my_worker._dependencies`
pub const DEPENDENCIES: Table = Table {
    name: "my_worker._dependencies",
    columns: DEPENDENCY_COLUMNS,
    stored: &stored::<{ DEPENDENCY_COLUMNS.len() }>(DEPENDENCY_COLUMNS),
    is_read_by_place: true,
};

columns! {
    EXPIRING_COLUMNS expiring:
    EXPIRES_AT "expires_at" Timestamptz Always;
    JOB        "job"        Bigint      Always;
}

/// `my_worker._expiring`
pub const EXPIRING: Table = Table {
    name: "my_worker._expiring",
    columns: EXPIRING_COLUMNS,
    stored: &stored::<{ EXPIRING_COLUMNS.len() }>(EXPIRING_COLUMNS),
    is_read_by_place: true,
};

/// How many tables we have.
pub const TABLE_COUNT: usize = 7;

/// All our tables.
pub const TABLES: [&Table; TABLE_COUNT] = [
    &JOBS,
    &HISTORY,
    &QUEUES,
    &SCHEDULES,
    &CONSUMERS,
    &DEPENDENCIES,
    &EXPIRING,
];

/// As statements name them.
pub const TABLE_NAMES: [&str; TABLE_COUNT] = table_names();

/// The place in `_jobs` of each column of `history`, in its order; 0 if it is not there.
pub const IN_JOBS: [i32; history::COUNT] = in_jobs();

/// The places in `_jobs` of the columns that a statement gives which enqueues a job, in order.
pub const GIVEN: [i32; given_count()] = given();

/// Bit i: a row of a job that has run is never NULL in column i of `history`, counted from 0.
pub const FILLED: u64 = filled();

/// Bit i: no row of `_jobs` is NULL in its column i, counted from 0.
pub const LIVE_FILLED: u64 = live_filled();

#[cfg(test)]
mod tests;
