//! my_worker: jobs inside the server.
//!
//! The rooms, each of which uses only those above it (`make lint` checks it):
//!
//! | room         | what it is                                                                    |
//! |--------------|-------------------------------------------------------------------------------|
//! | `sys`        | the server's declarations and the C shim                                      |
//! | `logic`      | pure rules: the pool, backoff, limits, schedules; tested without a server     |
//! | `pg`         | the safe layer over the server: every `unsafe` but the exports                |
//! | `settings`   | the settings                                                                  |
//! | `shared`     | what the processes share in memory                                            |
//! | `counted`    | counts how jobs end, wait and run                                             |
//! | `watchdog`   | terminates the processes of jobs that do not heed a cancel                    |
//! | `queue`      | all access to jobs and queues; the door for ends                              |
//! | `consume`    | client sessions that take jobs and do the work themselves               |
//! | `schedule`   | rules that enqueue jobs in time                                               |
//! | `home`       | makes a database the home of its jobs, where that is asked or plain                 |
//! | `execute`    | runs what a worker has taken, and settles it                                  |
//! | `evict`      | makes room for DROP DATABASE and its like                                     |
//! | `stats`      | shows what waits, runs and was counted, and says why                          |
//! | `progress`   | what a job says of its progress                                               |
//! | `absent`     | says which databases that are named cannot be served                          |
//! | `greeting`   | what the log says when the launcher starts                                    |
//! | `worker`     | a process of the pool: takes due jobs of one role                             |
//! | `dynamic`    | a process of `launch_dynamic_worker`: runs one job                            |
//! | `perform`    | runs a job at once, in the session that asks for it                           |
//! | `keeper`     | the process of one database: finds due work, ends and forgets jobs            |
//! | `launcher`   | the process of the server: starts the others                                  |
//! | `entry`      | what the server calls                                                         |
//!
//! A job's way: SQL call (`entry`), `queue`, COMMIT sets a latch, `worker`, `execute`, `queue::end` writes the
//! end, `queue::told` has it `counted` after COMMIT, `stats`, view.

#![deny(unused_must_use)]

pub mod logic;

#[cfg(not(test))]
mod absent;
#[cfg(not(test))]
mod consume;
#[cfg(not(test))]
mod counted;
#[cfg(not(test))]
mod dynamic;
#[cfg(not(test))]
mod entry;
#[cfg(not(test))]
mod evict;
#[cfg(not(test))]
mod execute;
#[cfg(not(test))]
mod greeting;
#[cfg(not(test))]
mod home;
#[cfg(not(test))]
mod keeper;
#[cfg(not(test))]
mod launcher;
#[cfg(not(test))]
mod perform;
#[cfg(not(test))]
mod pg;
#[cfg(not(test))]
mod progress;
#[cfg(not(test))]
mod queue;
#[cfg(not(test))]
mod schedule;
#[cfg(not(test))]
mod settings;
#[cfg(not(test))]
mod shared;
#[cfg(not(test))]
mod stats;
#[cfg(not(test))]
mod sys;
#[cfg(not(test))]
mod watchdog;
#[cfg(not(test))]
mod worker;

/// What must not compile: see scripts/misuse.
#[cfg(misuse)]
#[allow(dead_code)]
mod misuse {
    include!(env!("MW_MISUSE"));
}
