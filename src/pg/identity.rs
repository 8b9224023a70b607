//! Who the code runs as.
//!
//! Our own statements run as the extension's owner, for a moment, with the search path pinned and
//! the hostile parts of a session nested away, the way the server's own foreign-key triggers do it
//! (ri_triggers.c). No user code runs in between.

use super::datum::Oid;
use super::error::Result;
use super::guard::protect;
use super::guc;
use super::local::Local;
use crate::sys;

/// Whom the table's owner stands in for, see [`stand_in`]; 0: nobody.
static BEHALF: Local<Oid> = Local::new(0);

/// The role whose rights are in force now, or on whose behalf the owner acts.
pub fn current_role() -> Oid {
    match BEHALF.get() {
        // SAFETY: reads process-local state.
        0 => unsafe { sys::GetUserId() },
        role => role,
    }
}

/// From here on the current user is `owner`, who acts on behalf of the caller: row-level security
/// does not apply, everything that we check does. Answers what [`stand_down`] wants back. An error
/// puts the user back with the transaction; the end of it has to call [`forget_behalf`].
pub(super) fn stand_in(owner: Oid) -> (Oid, i32) {
    let (mut role, mut context) = (0, 0);
    // SAFETY: reads and writes process-local state.
    unsafe {
        sys::GetUserIdAndSecContext(&mut role, &mut context);
        let flags = context | sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        sys::SetUserIdAndSecContext(owner, flags);
    }
    BEHALF.set(role);
    (role, context)
}

/// Undoes [`stand_in`].
pub(super) fn stand_down((role, context): (Oid, i32)) {
    // SAFETY: writes process-local state.
    unsafe { sys::SetUserIdAndSecContext(role, context) };
    forget_behalf();
}

/// Nobody acts for anybody: after an error within [`stand_in`].
pub fn forget_behalf() {
    BEHALF.set(0);
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

/// Whether the current code may not be trusted with side effects: index builds, VACUUM, REFRESH.
pub fn in_restricted_operation() -> bool {
    // SAFETY: reads process-local state.
    unsafe { sys::InSecurityRestrictedOperation() }
}

/// Runs our own statements as `owner`. They are qualified throughout, operators included.
pub fn as_owner<T>(owner: Oid, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let (mut role, mut context) = (0, 0);
    let level = guc::Level::open();
    // SAFETY: reads and writes process-local state; put back below, and by the transaction's end
    // should the process leave this function by FATAL.
    unsafe {
        sys::GetUserIdAndSecContext(&mut role, &mut context);
        let flags = sys::SECURITY_LOCAL_USERID_CHANGE | sys::SECURITY_RESTRICTED_OPERATION;
        sys::SetUserIdAndSecContext(owner, context | flags as i32);
    }
    let result = guc::set_for_level(c"search_path", c"pg_catalog, pg_temp").and_then(|()| body());
    let ended = level.end();
    // SAFETY: as above.
    unsafe { sys::SetUserIdAndSecContext(role, context) };
    result.and_then(|value| ended.map(|()| value))
}

/// The name of a role, or its number if it is gone.
pub fn role_name(role: Oid) -> String {
    // SAFETY: with `noerr` the look-up answers NULL for a missing role.
    let name = protect(|| unsafe { sys::GetUserNameFromId(role, true) });
    match name.ok().and_then(|name| super::datum::from_c(name)) {
        Some(name) => String::from_utf8_lossy(&name).into_owned(),
        None => format!("with OID {role}"),
    }
}
