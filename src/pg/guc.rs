//! Typed settings of this library (`DefineCustom...Variable`, utils/misc/guc.c).

use std::cell::UnsafeCell;
use std::ffi::CStr;

use std::ptr;

use super::error::Result;
use super::guard::{self, protect};
use crate::sys;

/// When a setting may change.
#[derive(Clone, Copy)]
pub enum When {
    /// At server start only.
    Restart,
    /// By a reload of the configuration.
    Reload,
}

impl When {
    fn code(self) -> sys::GucContext {
        match self {
            When::Restart => sys::PGC_POSTMASTER,
            When::Reload => sys::PGC_SIGHUP,
        }
    }
}

/// A variable that the server writes and we read.
pub struct Setting<T>(UnsafeCell<T>);

// SAFETY: a process-local variable, written by the server in the same thread.
unsafe impl<T> Sync for Setting<T> {}

impl<T: Copy> Setting<T> {
    /// A variable with its default.
    pub const fn new(default: T) -> Self {
        Setting(UnsafeCell::new(default))
    }

    /// The value in force.
    pub fn get(&self) -> T {
        // SAFETY: one thread; the server writes only while it reads the configuration.
        unsafe { *self.0.get() }
    }
}

/// A text setting; NULL until it is defined.
pub type TextSetting = Setting<*mut libc::c_char>;

impl TextSetting {
    /// The value in force, copied: bytes as they stand in the configuration.
    pub fn bytes(&self) -> Vec<u8> {
        let value = self.get();
        if value.is_null() {
            return Vec::new();
        }
        // SAFETY: the server keeps a NUL-terminated string there.
        unsafe { CStr::from_ptr(value) }.to_bytes().to_vec()
    }
}

/// Name, one-line text and context of a setting.
#[derive(Clone, Copy)]
pub struct About {
    /// `my_worker.x`
    pub name: &'static CStr,
    /// What it does, beginning with a verb.
    pub text: &'static CStr,
    /// Further words, or the empty string.
    pub more: &'static CStr,
    /// When it may change.
    pub when: When,
}

/// Units of numbers.
#[derive(Clone, Copy)]
pub enum Unit {
    /// A plain number.
    None,
    /// Seconds.
    Seconds,
}

/// Defines a number.
pub fn define_int(
    about: About,
    setting: &'static Setting<i32>,
    range: (i32, i32),
    unit: Unit,
) -> Result<()> {
    let default = setting.get();
    let flags = match unit {
        Unit::None => 0,
        Unit::Seconds => sys::GUC_UNIT_S,
    };
    let variable = setting.0.get();
    // SAFETY: strings and variable are static; no hooks.
    protect(|| unsafe {
        sys::DefineCustomIntVariable(
            about.name.as_ptr(),
            about.text.as_ptr(),
            about.more.as_ptr(),
            variable,
            default,
            range.0,
            range.1,
            about.when.code(),
            flags as i32,
            None,
            None,
            None,
        )
    })
}

/// Defines an on/off setting.
pub fn define_bool(about: About, setting: &'static Setting<bool>) -> Result<()> {
    let (variable, default) = (setting.0.get(), setting.get());
    // SAFETY: strings and variable are static; no hooks.
    protect(|| unsafe {
        sys::DefineCustomBoolVariable(
            about.name.as_ptr(),
            about.text.as_ptr(),
            about.more.as_ptr(),
            variable,
            default,
            about.when.code(),
            0,
            None,
            None,
            None,
        )
    })
}

/// Why a value of a setting is refused.
pub struct Refused {
    /// The DETAIL: what is wrong with it.
    pub detail: Vec<u8>,
    /// The HINT.
    pub hint: &'static str,
}

/// Decides which texts a setting may have. Implemented by a type without values, since the server
/// passes a hook nothing of ours.
pub trait TextCheck {
    /// Looks at a value before it is set. Must not raise and must not depend on the session.
    fn check(value: &[u8]) -> std::result::Result<(), Refused>;
}

/// The check hook of a text (`GucStringCheckHook`): false refuses the value.
unsafe extern "C-unwind" fn check_text<C: TextCheck>(
    value: *mut *mut libc::c_char,
    _extra: *mut *mut libc::c_void,
    _source: sys::GucSource,
) -> bool {
    let outcome = guard::enter(false, || {
        // SAFETY: the server passes the address of a NUL-terminated string, or of NULL.
        let text = unsafe { (*value).as_ref().map(|first| CStr::from_ptr(first)) };
        let Err(refused) = C::check(text.map_or(b"", CStr::to_bytes)) else {
            return Ok(true);
        };
        let (detail, hint) = (
            guard::text(&refused.detail),
            guard::text(refused.hint.as_bytes()),
        );
        let (detail, hint) = (detail.as_ptr(), hint.as_ptr());
        // SAFETY: both strings live for the call, which copies them; these are GUC_check_errdetail() and
        // GUC_check_errhint().
        protect(|| unsafe {
            sys::pre_format_elog_string(0, ptr::null());
            sys::GUC_check_errdetail_string = sys::format_elog_string(c"%s".as_ptr(), detail);
            sys::pre_format_elog_string(0, ptr::null());
            sys::GUC_check_errhint_string = sys::format_elog_string(c"%s".as_ptr(), hint);
        })?;
        Ok(false)
    });
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}

/// Defines a text.
pub fn define_text<C: TextCheck>(
    about: About,
    setting: &'static TextSetting,
    default: &'static CStr,
) -> Result<()> {
    let variable = setting.0.get();
    // SAFETY: strings and variable are static, and the hook is a function of this library.
    protect(|| unsafe {
        sys::DefineCustomStringVariable(
            about.name.as_ptr(),
            about.text.as_ptr(),
            about.more.as_ptr(),
            variable,
            default.as_ptr(),
            about.when.code(),
            0,
            Some(check_text::<C>),
            None,
            None,
        )
    })
}

/// The values of an enumerated setting: NULL-terminated, static.
#[repr(transparent)]
pub struct Options<const N: usize>(pub [sys::config_enum_entry; N]);

// SAFETY: holds pointers to constants only.
unsafe impl<const N: usize> Sync for Options<N> {}

/// One value of an enumerated setting; the last of a list is [`END_OF_OPTIONS`].
pub const fn option(name: &'static CStr, value: i32) -> sys::config_enum_entry {
    sys::config_enum_entry {
        name: name.as_ptr(),
        val: value,
        hidden: false,
    }
}

/// Ends a list of options.
pub const END_OF_OPTIONS: sys::config_enum_entry = sys::config_enum_entry {
    name: std::ptr::null(),
    val: 0,
    hidden: false,
};

/// Defines a choice among names.
pub fn define_choice<const N: usize>(
    about: About,
    setting: &'static Setting<i32>,
    options: &'static Options<N>,
) -> Result<()> {
    let (variable, default) = (setting.0.get(), setting.get());
    // SAFETY: strings, variable and options are static; no hooks.
    protect(|| unsafe {
        sys::DefineCustomEnumVariable(
            about.name.as_ptr(),
            about.text.as_ptr(),
            about.more.as_ptr(),
            variable,
            default,
            options.0.as_ptr(),
            about.when.code(),
            0,
            None,
            None,
            None,
        )
    })
}

/// Has misspelt settings with this prefix reported.
pub fn reserve_prefix(prefix: &'static CStr) -> Result<()> {
    // SAFETY: a constant string.
    protect(|| unsafe { sys::MarkGUCPrefixReserved(prefix.as_ptr()) })
}

/// The value of a setting of anybody's, whoever asks; `None` if there is none of that name.
pub fn value(name: &'static CStr) -> Result<Option<Vec<u8>>> {
    // SAFETY: a constant name; NULL, or a string that is copied before anything else is done.
    let value = protect(|| unsafe { sys::GetConfigOption(name.as_ptr(), true, false) })?;
    // SAFETY: as above.
    Ok((!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_bytes().to_vec()))
}

/// Sets one of the server's settings for this process, over the user's own.
pub fn override_setting(name: &'static CStr, value: &'static CStr) -> Result<()> {
    // SAFETY: constant strings.
    protect(|| unsafe {
        sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            sys::PGC_SUSET,
            sys::PGC_S_OVERRIDE,
        )
    })
}

/// Sets one of the server's settings until the surrounding nest level ends.
pub fn set_for_level(name: &'static CStr, value: &'static CStr) -> Result<()> {
    // SAFETY: constant strings; a nest level is open, so GUC_ACTION_SAVE restores the old value.
    protect(|| unsafe {
        sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            sys::PGC_USERSET,
            sys::PGC_S_SESSION,
            sys::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    })
}

/// Sets one of the server's settings until the open transaction ends.
pub fn set_for_transaction(name: &'static CStr, value: &'static CStr) -> Result<()> {
    // SAFETY: constant strings; a transaction is open, so GUC_ACTION_LOCAL restores the old value.
    protect(|| unsafe {
        sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            sys::PGC_USERSET,
            sys::PGC_S_SESSION,
            sys::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    })
}

/// Has statements fire no trigger, but for those that fire always, until the surrounding nest level
/// ends; whatever rights the session has.
pub fn pass_by_triggers() -> Result<()> {
    // SAFETY: as above.
    protect(|| unsafe {
        sys::set_config_option(
            c"session_replication_role".as_ptr(),
            c"replica".as_ptr(),
            sys::PGC_SUSET,
            sys::PGC_S_SESSION,
            sys::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    })
}

/// A level of settings; what is set within it, also by plain SET, ends with it.
pub struct Level(i32);

impl Level {
    /// Opens a level.
    pub fn open() -> Self {
        // SAFETY: counts up a process-local number.
        Level(unsafe { sys::NewGUCNestLevel() })
    }

    /// Ends the level and undoes its settings.
    pub fn end(self) -> Result<()> {
        // SAFETY: the level was opened by us and is still open: inner ones end with it.
        protect(|| unsafe { sys::AtEOXact_GUC(false, self.0) })
    }
}

/// Reads the configuration files again if SIGHUP asked for it; true if so.
pub fn reload_if_asked() -> Result<bool> {
    // SAFETY: a flag of this process, set by the server's SIGHUP handler.
    let asked = unsafe { (&raw mut sys::ConfigReloadPending).replace(0) } != 0;
    if asked {
        // SAFETY: called at the top of a loop, as the server's own processes do.
        protect(|| unsafe { sys::ProcessConfigFile(sys::PGC_SIGHUP) })?;
    }
    Ok(asked)
}

/// Whether the session reads a script of pg_dump, by two settings that all of them begin with and that
/// hardened functions and careful sessions do not have together (_doSetFixedOutputState,
/// pg_backup_archiver.c).
pub fn is_restoring() -> Result<bool> {
    // SAFETY: a variable of this process.
    let unchecked = unsafe { !sys::check_function_bodies };
    Ok(unchecked && is_empty(c"search_path")?)
}

/// Whether a setting of the server is the empty string.
fn is_empty(name: &'static CStr) -> Result<bool> {
    // SAFETY: answers NULL or a NUL-terminated string that the server owns.
    protect(|| unsafe {
        let value = sys::GetConfigOption(name.as_ptr(), true, false);
        value.is_null() || *value == 0 || libc::strcmp(value, c"\"\"".as_ptr()) == 0
    })
}
