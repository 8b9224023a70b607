//! An ERROR of the server, or one of ours, as a value.
//!
//! Texts are bytes in the database's encoding, which need not be UTF-8. They never hold a NUL.

use std::fmt::Write;

use crate::sys;

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, PgError>;

/// A five-character SQLSTATE, packed as the server packs it (`MAKE_SQLSTATE`, utils/elog.h).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SqlState(pub i32);

impl SqlState {
    /// Packs the five characters, six bits each.
    pub const fn new(code: &[u8; 5]) -> Self {
        let [a, b, c, d, e] = *code;
        SqlState(
            six_bits(a)
                | six_bits(b) << 6
                | six_bits(c) << 12
                | six_bits(d) << 18
                | six_bits(e) << 24,
        )
    }

    /// The five characters again.
    pub fn text(self) -> String {
        (0..5)
            .map(|i| char::from(((self.0 >> (6 * i)) & 0x3f) as u8 + b'0'))
            .collect()
    }
}

const fn six_bits(character: u8) -> i32 {
    (character.wrapping_sub(b'0') & 0x3f) as i32
}

/// `lock_not_available`
pub const LOCK_NOT_AVAILABLE: SqlState = SqlState::new(b"55P03");
/// Success: what a report without a code of its own carries.
pub const SUCCESSFUL_COMPLETION: SqlState = SqlState::new(b"00000");
/// 0A000
pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState::new(b"0A000");
/// 22023
pub const INVALID_PARAMETER_VALUE: SqlState = SqlState::new(b"22023");
/// P0001
pub const RAISE_EXCEPTION: SqlState = SqlState::new(b"P0001");
/// 42804
pub const DATATYPE_MISMATCH: SqlState = SqlState::new(b"42804");
/// 22004
pub const NULL_VALUE_NOT_ALLOWED: SqlState = SqlState::new(b"22004");
/// 22P02
pub const INVALID_TEXT_REPRESENTATION: SqlState = SqlState::new(b"22P02");
/// A row that breaks a rule of its table.
pub const CHECK_VIOLATION: SqlState = SqlState::new(b"23514");
/// 25001
pub const ACTIVE_SQL_TRANSACTION: SqlState = SqlState::new(b"25001");
/// 25P02
pub const IN_FAILED_SQL_TRANSACTION: SqlState = SqlState::new(b"25P02");
/// 25006
pub const READ_ONLY_SQL_TRANSACTION: SqlState = SqlState::new(b"25006");
/// 27000
pub const TRIGGERED_DATA_CHANGE_VIOLATION: SqlState = SqlState::new(b"27000");
/// 28000
pub const INVALID_AUTHORIZATION: SqlState = SqlState::new(b"28000");
/// 3F000
pub const UNDEFINED_SCHEMA: SqlState = SqlState::new(b"3F000");
/// 23505
pub const UNIQUE_VIOLATION: SqlState = SqlState::new(b"23505");
/// 42501
pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState::new(b"42501");
/// 42601
pub const SYNTAX_ERROR: SqlState = SqlState::new(b"42601");
/// 42602
pub const INVALID_NAME: SqlState = SqlState::new(b"42602");
/// 42704
pub const UNDEFINED_OBJECT: SqlState = SqlState::new(b"42704");
/// 42710
pub const DUPLICATE_OBJECT: SqlState = SqlState::new(b"42710");
/// 42883
pub const UNDEFINED_FUNCTION: SqlState = SqlState::new(b"42883");
/// 53000
pub const INSUFFICIENT_RESOURCES: SqlState = SqlState::new(b"53000");
/// 40001
pub const SERIALIZATION_FAILURE: SqlState = SqlState::new(b"40001");
/// 40P01
pub const DEADLOCK_DETECTED: SqlState = SqlState::new(b"40P01");
/// 53100
pub const DISK_FULL: SqlState = SqlState::new(b"53100");
/// 58030
pub const IO_ERROR: SqlState = SqlState::new(b"58030");
/// 53400
pub const CONFIGURATION_LIMIT_EXCEEDED: SqlState = SqlState::new(b"53400");
/// 53200
pub const OUT_OF_MEMORY: SqlState = SqlState::new(b"53200");
/// 54000
#[cfg(pg_ge_17)]
pub const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState::new(b"54000");
/// 55000
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: SqlState = SqlState::new(b"55000");
/// 55006
pub const OBJECT_IN_USE: SqlState = SqlState::new(b"55006");
/// 57014
pub const QUERY_CANCELED: SqlState = SqlState::new(b"57014");
/// 57P05
pub const IDLE_SESSION_TIMEOUT: SqlState = SqlState::new(b"57P05");
/// 08006
pub const CONNECTION_FAILURE: SqlState = SqlState::new(b"08006");
/// 40000
pub const TRANSACTION_ROLLBACK: SqlState = SqlState::new(b"40000");
/// 57P01
pub const ADMIN_SHUTDOWN: SqlState = SqlState::new(b"57P01");
/// 57P02
pub const CRASH_SHUTDOWN: SqlState = SqlState::new(b"57P02");
/// XX000
pub const INTERNAL_ERROR: SqlState = SqlState::new(b"XX000");

/// One ERROR with the fields that a reader needs.
#[derive(Clone)]
pub struct PgError {
    /// Its code.
    pub sqlstate: SqlState,
    /// The primary message.
    pub message: Vec<u8>,
    /// DETAIL, if any.
    pub detail: Option<Vec<u8>>,
    /// HINT, if any.
    pub hint: Option<Vec<u8>>,
    /// CONTEXT: the call stack of functions, if any.
    pub context: Option<Vec<u8>>,
    /// Whether the server's DoCopy() itself raised it.
    pub(super) by_copy: bool,
}

impl PgError {
    /// A new error of ours.
    pub fn new(sqlstate: SqlState, message: impl Into<Vec<u8>>) -> Self {
        PgError {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            context: None,
            by_copy: false,
        }
    }

    /// For what only a bug of ours can cause.
    pub fn internal(message: &str) -> Self {
        PgError::new(
            INTERNAL_ERROR,
            format!("my_worker internal error: {message}"),
        )
        .hint("This is a bug in my_worker, please report it.")
    }

    /// With a DETAIL line.
    pub fn detail(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.detail = Some(text.into());
        self
    }

    /// With a HINT line.
    pub fn hint(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Whether it is of the moment and not of a row: rollbacks, resources, operators, the system,
    /// objects in use, a read-only server.
    pub fn passes(&self) -> bool {
        let code = self.sqlstate.text();
        ["40", "53", "57", "58", "XX", "25", "55P03", "55006"]
            .iter()
            .any(|class| code.starts_with(class))
    }

    /// The message for a log line of ours, whatever its encoding.
    pub fn summary(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.message).into_owned();
        let _ = write!(text, " (SQLSTATE {})", self.sqlstate.text());
        text
    }

    /// Takes over what the server caught and frees it. Called with the context that owns it
    /// current; does not raise.
    ///
    /// # Safety
    /// `data` comes from `mw_try` and is used by nobody else.
    pub(super) unsafe fn from_error_data(data: *mut sys::ErrorData) -> Self {
        // SAFETY: the caller owns a valid ErrorData; its strings are NULL or NUL-terminated.
        unsafe {
            let error = PgError {
                sqlstate: SqlState((*data).sqlerrcode),
                message: copied((*data).message).unwrap_or_default(),
                detail: copied((*data).detail),
                hint: copied((*data).hint),
                context: copied((*data).context),
                by_copy: is_copy((*data).funcname),
            };
            // Without memory for a copy it is the shim's constant one.
            if !(*data).assoc_context.is_null() {
                sys::FreeErrorData(data);
            }
            error
        }
    }
}

/// Whether that is the name of DoCopy().
///
/// # Safety
/// `function` is NULL or a NUL-terminated string.
unsafe fn is_copy(function: *const libc::c_char) -> bool {
    // SAFETY: not NULL, and terminated as the caller says.
    !function.is_null() && unsafe { std::ffi::CStr::from_ptr(function) } == c"DoCopy"
}

/// A copy that gives up on lack of memory instead of aborting the server.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string.
unsafe fn copied(text: *const libc::c_char) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and terminated as the caller says.
    let bytes = unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes();
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}
