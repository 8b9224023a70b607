//! What `pg_stat_activity` and `ps` show of this process, and its table statistics.

use super::datum::Oid;
use super::error::Result;
use super::guard::{protect, text};
use super::local::Local;
use super::{catalog, identity};
use crate::sys;

/// Shows the process as running `what`.
pub fn running(what: &[u8]) {
    let what = text(what);
    // SAFETY: the text is copied; the calls write this process's own status entry.
    unsafe { sys::pgstat_report_activity(sys::STATE_RUNNING, what.as_ptr()) }
}

/// The same for what the parts are together: nothing is allocated, unless it is long.
pub fn running_all(parts: &[&[u8]]) {
    let mut room = [0; 256];
    let mut free = room.split_last_mut().map_or(&mut [][..], |(_, text)| text);
    for part in parts {
        let Some((to, rest)) = free.split_at_mut_checked(part.len()) else {
            return running(&parts.concat());
        };
        to.copy_from_slice(part);
        free = rest;
    }
    // SAFETY: as above; its last byte is 0, if no other is.
    unsafe { sys::pgstat_report_activity(sys::STATE_RUNNING, room.as_ptr().cast()) }
}

/// The most bytes that a number of 64 bits has in decimal.
pub const DIGITS: usize = 20;

/// A number in decimal, without the machinery that formats anything: each job is shown by its id.
pub fn decimal(number: i64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut left = number.unsigned_abs();
    let mut from = DIGITS;
    let mut put = |digit: u8| {
        from = from.saturating_sub(1);
        if let Some(place) = room.get_mut(from) {
            *place = digit;
        }
    };
    loop {
        put(b'0' + (left % 10) as u8);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        put(b'-');
    }
    room.get(from..).unwrap_or_default()
}

/// The name that the session goes by, `application_name`.
pub fn application() -> Result<Vec<u8>> {
    // SAFETY: NULL, or a text of the settings.
    let name = super::datum::from_c(unsafe { sys::application_name });
    Ok(name.unwrap_or_default())
}

/// Shows the process as idle.
pub fn idle() {
    // SAFETY: as above.
    unsafe { sys::pgstat_report_activity(sys::STATE_IDLE, std::ptr::null()) }
}

static TITLE: Local<Vec<u8>> = Local::new(Vec::new());
static WHO: Local<Vec<u8>> = Local::new(Vec::new());

/// Puts role and database, or the database alone, before what [`title`] says, as a session's own
/// process has them. Once in a process's life; in a transaction.
pub fn introduce(role: Option<Oid>) -> Result<()> {
    if WHO.with(|who| !who.is_empty()) {
        return Ok(());
    }
    let role = match role {
        Some(role) => identity::role_name(role)? + " ",
        None => String::new(),
    };
    let database = catalog::current_database()?;
    WHO.set([role.as_bytes(), &database, b" "].concat());
    Ok(())
}

/// What `ps` shows behind the process's name. Costs nothing if it is the same as before.
pub fn title(what: &[u8]) {
    if TITLE.with(|known| known == what) {
        return;
    }
    TITLE.set(what.to_vec());
    let what = text(&WHO.with(|who| [who.as_slice(), what].concat()));
    // SAFETY: the text is copied into this process's own title.
    unsafe { sys::mw_set_ps_display(what.as_ptr()) }
}

/// Sets `application_name`.
pub fn application_name(name: &str) {
    let name = text(name.as_bytes());
    // SAFETY: as above.
    unsafe { sys::pgstat_report_appname(name.as_ptr()) }
}

/// Sends what this process counted of its tables, so that autovacuum sees our deletes. Outside a
/// transaction.
pub fn flush_statistics() -> Result<()> {
    // SAFETY: called between transactions.
    protect(|| unsafe {
        sys::pgstat_report_stat(false);
    })
}

/// The same, also if the last time is less than a second ago: before a long sleep.
pub fn flush_last_statistics() -> Result<()> {
    // SAFETY: called between transactions.
    protect(|| unsafe {
        sys::pgstat_report_stat(true);
    })
}
