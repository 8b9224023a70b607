//! Who the code runs as.
//!
//! Our own statements run as the extension's owner, for a moment, with the search path pinned and
//! the hostile parts of a session nested away, the way the server's own foreign-key triggers do it
//! (ri_triggers.c). No user code runs in between.

use super::datum::Oid;
use super::error::Result;
use super::guard::{protect, text};
use super::guc;
use super::local::Local;
use crate::sys;

/// The role whose rights are in force now.
pub fn current_role() -> Oid {
    // SAFETY: reads process-local state.
    unsafe { sys::GetUserId() }
}

/// Whether the current role is a superuser.
pub fn is_superuser() -> Result<bool> {
    role_is_superuser(current_role())
}

/// Whether that role is a superuser.
pub fn role_is_superuser(role: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::superuser_arg(role) })
}

/// Whether `member` has the rights of `role`.
pub fn has_rights_of(member: Oid, role: Oid) -> Result<bool> {
    // SAFETY: a catalog look-up.
    protect(|| unsafe { sys::has_privs_of_role(member, role) })
}

/// Whether that role sees the server's statistics of everybody.
pub fn reads_all_stats(role: Oid) -> Result<bool> {
    has_rights_of(role, sys::ROLE_PG_READ_ALL_STATS)
}

/// Whether the current code may not be trusted with side effects: index builds, VACUUM, REFRESH.
pub fn in_restricted_operation() -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::InSecurityRestrictedOperation() }
}

/// Whether the current role is that of a function that runs with its owner's rights, or of an operation of ours.
pub fn in_changed_role() -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::InLocalUserIdChange() }
}

/// Makes one call of the server with the rights of `owner`, which runs no code of anybody's.
pub(super) fn with_rights_of<T>(owner: Oid, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let (mut role, mut context) = (0, 0);
    // SAFETY: process-local state, put back below.
    unsafe {
        sys::GetUserIdAndSecContext(&mut role, &mut context);
        let flags = sys::SECURITY_LOCAL_USERID_CHANGE | sys::SECURITY_RESTRICTED_OPERATION;
        sys::SetUserIdAndSecContext(owner, context | flags as i32);
    }
    let result = call();
    // SAFETY: as above.
    unsafe { sys::SetUserIdAndSecContext(role, context) };
    result
}

/// Whether a role is a member of any other one.
pub fn is_member_of_any(role: Oid) -> Result<bool> {
    let key = role as sys::Datum;
    // SAFETY: a look-up of the server's cache of memberships by member, let go at once.
    protect(|| unsafe {
        let list = sys::SearchSysCacheList(sys::AUTHMEMMEMROLE as i32, 1, key, 0, 0);
        let count = (*list).n_members;
        sys::ReleaseCatCacheList(list);
        count > 0
    })
}

/// Makes one call of the server that may run code of users, as a statement of `owner` would: see
/// [`as_owner`]. What that code does is not ours.
pub(super) fn as_restricted(owner: Oid, call: impl FnOnce() -> Result<()>) -> Result<()> {
    let level = guc::Level::open();
    let result = with_rights_of(owner, || {
        guc::set_for_level(c"search_path", c"pg_catalog, pg_temp").and_then(|()| call())
    });
    let ended = level.end();
    result.and(ended)
}

/// Whether what runs is a statement of ours.
static OURS: Local<bool> = Local::new(false);

/// Whether what runs is a statement of ours, which has checked everything.
pub fn is_ours() -> bool {
    OURS.get()
}

/// Says that statements are ours until it is dropped, also by a panic.
struct Ours {
    before: bool,
}

impl Ours {
    fn begin() -> Self {
        Ours {
            before: OURS.replace(true),
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        OURS.set(self.before);
    }
}

/// Runs our own statements as `owner`. They name relations, functions and types with
/// their schema; operators are found by the pinned path, since the server looks for none in pg_temp.
pub fn as_owner<T>(owner: Oid, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let flags = sys::SECURITY_LOCAL_USERID_CHANGE | sys::SECURITY_RESTRICTED_OPERATION;
    as_owner_within(owner, flags, body)
}

/// The same without the restrictions of index builds, under which the server takes no trigger that is
/// deferred: for statements that fire those of a table of `owner`'s, who made them.
pub fn as_owner_deferring<T>(owner: Oid, body: impl FnOnce() -> Result<T>) -> Result<T> {
    as_owner_within(owner, sys::SECURITY_LOCAL_USERID_CHANGE, body)
}

fn as_owner_within<T>(owner: Oid, flags: u32, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let _ours = Ours::begin();
    let (mut role, mut context) = (0, 0);
    let level = guc::Level::open();
    // SAFETY: reads and writes process-local state; put back below, and by the transaction's end
    // should the process leave this function by FATAL.
    unsafe {
        sys::GetUserIdAndSecContext(&mut role, &mut context);
        sys::SetUserIdAndSecContext(owner, context | flags as i32);
    }
    let result = guc::set_for_level(c"search_path", c"pg_catalog, pg_temp").and_then(|()| body());
    let ended = level.end();
    // SAFETY: as above.
    unsafe { sys::SetUserIdAndSecContext(role, context) };
    result.and_then(|value| ended.map(|()| value))
}

/// The role of that name, if there is one.
pub fn role_named(name: &[u8]) -> Result<Option<Oid>> {
    let name = text(name);
    // SAFETY: a catalog look-up by a string that outlives it.
    let role = protect(|| unsafe { sys::get_role_oid(name.as_ptr(), true) })?;
    Ok((role != 0).then_some(role))
}

/// The name of a role, or its number if it is gone.
pub fn role_name(role: Oid) -> Result<String> {
    // SAFETY: with `noerr` the look-up answers NULL for a missing role.
    let name = protect(|| unsafe { sys::GetUserNameFromId(role, true).cast_const() })?;
    Ok(match super::datum::from_c(name) {
        Some(name) => String::from_utf8_lossy(&name).into_owned(),
        None => format!("with OID {role}"),
    })
}
