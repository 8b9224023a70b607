//! my_worker: jobs inside the server.
//!
//! The layers, each of which may use those before it:
//!
//! | module      | what it is                                                                     |
//! |-------------|--------------------------------------------------------------------------------|
//! | `sys`       | the server's declarations and the C shim                                       |
//! | `pg`        | the safe layer over them: every `unsafe` but the exports                       |
//! | `logic`     | pure rules: backoff, states, limits, schedules; tested without a server        |
//! | `settings`  | the settings                                                                   |
//! | `shared`    | what the processes share in memory                                             |
//! | `counted`   | counts how jobs end, wait and run                                              |
//! | `queue`     | all access to jobs and queues                                                  |
//! | `schedule`  | rules that enqueue jobs in time                                               |
//! | `execute`   | runs what a worker has taken, and settles it                                   |
//! | `evict`     | makes room for DROP DATABASE and its like                                      |
//! | `stats`, `progress` | shows what waits, runs and was counted                                 |
//! | `absent`    | says which databases that are named cannot be served                           |
//! | `worker`, `dynamic`, `keeper`, `launcher` | the processes                                    |
//! | `greeting`  | what the log says when the launcher starts                                     |
//! | `watchdog`  | terminates the processes of jobs that do not heed a cancel                     |
//! | `entry`     | what the server calls                                                          |
//!
//! A job's way: SQL call, `queue`, COMMIT sets a latch, `worker`, `execute`, `stats`, view.

pub mod logic;

#[cfg(not(test))]
mod absent;
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
mod keeper;
#[cfg(not(test))]
mod launcher;
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
