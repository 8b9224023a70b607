//! What the server calls: the library's initialisation, the workers' main functions, and the SQL
//! functions. Each is a few lines: convert, call, convert back.

mod bgw;
mod consume;
#[cfg(feature = "faults")]
mod faults;
mod home;
mod messages;
mod probe;
mod queue;
mod schedule;
mod sql;
mod stats;

use crate::pg::error::Result;
use crate::pg::{bgworker, ddl, guard, log, shmem, shortcut, statements, utility};
use crate::queue::{direct, incoming, leases, rights};
use crate::shared::{SHARED, consumers, rates, recent};
use crate::stats::saved;
use crate::{evict, launcher, settings};

/// The module magic, by which the server checks that the library was built for it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn Pg_magic_func() -> *const libc::c_void {
    // SAFETY: answers the address of a constant.
    unsafe { crate::sys::mw_magic() }
}

/// Called when the library is loaded: by the postmaster if it is preloaded, else by a session.
///
/// # Safety
/// Called by the server alone.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn _PG_init() {
    guard::install_panic_hook();
    let outcome = guard::enter((), init);
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}

fn init() -> Result<()> {
    let preloading = bgworker::is_preloading();
    settings::define(preloading)?;
    utility::install(
        evict::make_room,
        incoming::copy_target,
        rights::check_definition,
    );
    utility::on_reset(leases::discard);
    ddl::install(rights::check_made);
    statements::install();
    shortcut::offer(c"_jobs", direct::way);
    if preloading {
        shmem::install_hooks(request, startup);
        launcher::register();
        log::quieten();
    }
    Ok(())
}

fn request() {
    SHARED.request();
    consumers::request();
    rates::request();
    recent::request();
}

fn startup() {
    consumers::attach();
    rates::attach();
    recent::attach();
    if SHARED.attach() {
        saved::load();
        shmem::at_shutdown(saved::save);
    }
}
