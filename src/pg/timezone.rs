//! The server's time zones: names, and the offset from UTC at an instant (utils/pgtime.h).

use std::ptr;

use super::datum::{Micros, from_c};
use super::error::Result;
use super::guard::{protect, text};
use crate::logic::zone::Zone;
use crate::sys;

/// Seconds from 1970-01-01, the origin of `pg_time_t`, to 2000-01-01, that of `timestamptz`.
const UNIX_EPOCH_SECS: i64 = 946_684_800;
const MICROS_PER_SEC: i64 = 1_000_000;

/// A time zone that the server knows. It keeps them for the life of the process.
#[derive(Clone, Copy)]
pub struct Timezone(*mut sys::pg_tz);

impl Timezone {
    /// Finds a zone by its name, as `SET timezone` does, so that a bare number counts hours east of
    /// Greenwich; `None` if there is none. May raise for lack of memory, and for an `INTERVAL '...'`
    /// that cannot be read.
    pub fn find(name: &[u8]) -> Result<Option<Timezone>> {
        let name = text(name);
        let name = name.as_ptr();
        // SAFETY: the server's own check takes a name that it may replace, and answers the address of a
        // zone in memory that it leaves to us.
        let zone = protect(|| unsafe {
            let (mut value, mut extra) = (sys::pstrdup(name), ptr::null_mut());
            let accepts = sys::check_timezone(&mut value, &mut extra, sys::PGC_S_SESSION);
            if extra.is_null() {
                return ptr::null_mut();
            }
            let zone = *extra.cast::<*mut sys::pg_tz>();
            #[cfg(pg_ge_16)]
            sys::guc_free(extra);
            #[cfg(not(pg_ge_16))]
            libc::free(extra);
            if accepts { zone } else { ptr::null_mut() }
        })?;
        Ok((!zone.is_null()).then_some(Timezone(zone)))
    }

    /// The zone of this session, by its setting `timezone`.
    pub fn of_session() -> Timezone {
        // SAFETY: set in every process before any code of ours runs, and never NULL.
        Timezone(unsafe { sys::session_timezone })
    }

    /// Its name as the server writes it.
    pub fn name(self) -> Vec<u8> {
        // SAFETY: the zone lives as long as the process, and its name with it.
        from_c(unsafe { sys::pg_get_timezone_name(self.0) }).unwrap_or_default()
    }
}

impl Zone for Timezone {
    fn offset_at(&self, t: Micros) -> i32 {
        let at: sys::pg_time_t = t.div_euclid(MICROS_PER_SEC).saturating_add(UNIX_EPOCH_SECS);
        // SAFETY: computes in a static buffer and raises nothing; NULL for a time out of range.
        unsafe {
            let local = sys::pg_localtime(&at, self.0);
            if local.is_null() {
                return 0;
            }
            i32::try_from((*local).tm_gmtoff).unwrap_or(0)
        }
    }
}
