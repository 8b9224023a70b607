//! Definitions that concern our relations: utility statements that lock them, or point a foreign key at
//! them, are told of before they run; objects that hang on a relation, right after they are made.
//!
//! The first is for statements that wait for a lock before they look whether their author may: they
//! would stall all others meanwhile. The second (object_access_hook, catalog/objectaccess.h) is for
//! what counts, since it knows relations by OID: a trigger, rule, policy or foreign key that is
//! refused there is rolled back with its statement, whatever names led to it.

use super::datum::Oid;
use super::error::Result;
use super::guard::{self, protect};
use super::local::Local;
use crate::sys;

/// A relation that a utility statement names.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its OID.
    pub relation: Oid,
    /// A foreign key is to point at it.
    pub is_foreign_key: bool,
}

/// The relations that a utility statement locks before it looks whether its author may, and those
/// that it points foreign keys at. May raise for names that cannot be looked up.
pub(super) fn targets(statement: *mut sys::PlannedStmt) -> Result<Vec<Target>> {
    let mut count = 0;
    let pointer = &raw mut count;
    // SAFETY: the server passes a valid statement.
    let list = protect(|| unsafe { sys::mw_locked_first(statement, pointer) })?;
    let one = |i| {
        // SAFETY: the array has `count` elements.
        let target = unsafe { &*list.add(i) };
        Target {
            relation: target.relation,
            is_foreign_key: target.is_foreign_key,
        }
    };
    Ok((0..usize::try_from(count).unwrap_or(0)).map(one).collect())
}

/// Whether a utility statement locks that extension against everybody: DROP EXTENSION, among others, and
/// ALTER .. DEPENDS ON EXTENSION.
pub(super) fn locks_extension(
    statement: *mut sys::PlannedStmt,
    name: &'static std::ffi::CStr,
) -> bool {
    // SAFETY: as above; reads its nodes.
    unsafe { sys::mw_locks_extension(statement, name.as_ptr()) }
}

/// What was just made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A trigger on a relation.
    Trigger,
    /// A rule on it.
    Rule,
    /// A policy on it.
    Policy,
    /// A foreign key that refers to it.
    ForeignKey,
    /// Nothing was made: it is about to be truncated.
    Truncate,
}

/// Told of it. An error takes it back.
pub type MadeHook = fn(Made, Oid) -> Result<()>;

static PREVIOUS: Local<sys::object_access_hook_type> = Local::new(None);
static HOOK: Local<Option<MadeHook>> = Local::new(None);

/// Chains into the server's hook. From `_PG_init`.
pub fn install(hook: MadeHook) {
    HOOK.set(Some(hook));
    // SAFETY: a variable of this process, which has one thread.
    unsafe {
        PREVIOUS.set(sys::object_access_hook);
        sys::object_access_hook = Some(on_access);
    }
}

unsafe extern "C-unwind" fn on_access(
    access: sys::ObjectAccessType,
    class: Oid,
    object: Oid,
    column: i32,
    argument: *mut libc::c_void,
) {
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: the hook of another library, called as the server would.
        unsafe { previous(access, class, object, column, argument) };
    }
    // Functions pass here each time they are called: nothing before this costs anything.
    let Some(made) = kind_of(access, class) else {
        return;
    };
    let outcome = guard::enter((), || {
        let relation = relation_of(made, object)?;
        match HOOK.get().filter(|_| relation != 0) {
            Some(hook) => hook(made, relation),
            None => Ok(()),
        }
    });
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}

fn kind_of(access: sys::ObjectAccessType, class: Oid) -> Option<Made> {
    match (access, class) {
        (sys::OAT_TRUNCATE, _) => Some(Made::Truncate),
        (sys::OAT_POST_CREATE, sys::TriggerRelationId) => Some(Made::Trigger),
        (sys::OAT_POST_CREATE, sys::RewriteRelationId) => Some(Made::Rule),
        (sys::OAT_POST_CREATE, sys::PolicyRelationId) => Some(Made::Policy),
        (sys::OAT_POST_CREATE, sys::ConstraintRelationId) => Some(Made::ForeignKey),
        _ => None,
    }
}

/// The relation that a new object hangs on; 0 if it is no object of that kind.
fn relation_of(made: Made, object: Oid) -> Result<Oid> {
    // SAFETY: catalog look-ups that see what this command has written.
    protect(|| unsafe {
        match made {
            Made::Truncate => object,
            Made::Trigger => sys::mw_relation_of_trigger(object),
            Made::Rule => sys::mw_relation_of_rule(object),
            Made::Policy => sys::mw_relation_of_policy(object),
            Made::ForeignKey => sys::mw_relation_referred(object),
        }
    })
}
