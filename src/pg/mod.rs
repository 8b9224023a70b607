//! The safe layer over the server: every `unsafe` of the project but the exports. It knows nothing
//! of jobs. What a call needs (an open transaction, a lock) and may raise stands at the call.

pub mod activity;
pub mod bgworker;
pub mod catalog;
pub mod clock;
pub mod command;
mod copy;
pub mod datum;
pub mod ddl;
pub mod error;
pub mod fmgr;
pub mod guard;
pub mod guc;
pub mod identity;
mod key;
pub mod latch;
pub mod local;
pub mod log;
pub mod lookup;
pub mod marks;
pub mod memcx;
mod nodes;
pub mod random;
pub mod role_settings;
pub mod scan;
pub mod sequence;
pub mod session;
pub mod shmem;
pub mod spi;
pub mod stain;
pub mod statements;
mod syscache;
pub mod table;
pub mod timezone;
pub mod utility;
pub mod wait_event;
pub mod xact;
