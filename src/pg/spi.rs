//! Statements of ours, by the Server Programming Interface, with plans that are kept.
//!
//! A statement is a constant. `my_worker._jobs` in it stands for the qualified name of `my_queue`, which
//! the target schema of CREATE EXTENSION decides; everything else is written qualified. Callers
//! run in `identity::as_owner`, which pins the search path.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;

use super::catalog::{self, Extension};
use super::datum::{self, Datum, Oid};
use super::error::{PgError, Result};
use super::guard::{protect, text};
use crate::sys;

/// The text of a statement.
enum Sql {
    Constant(&'static str),
    /// Made of constants, among them the lists of our columns, when the statement is first used.
    Made(fn() -> String),
}

/// One of our statements with its kept plan, made on first use in each process.
pub struct Statement {
    sql: Sql,
    arguments: &'static [Oid],
    plan: Cell<sys::SPIPlanPtr>,
    /// Which of our tables it writes to, a bit each, once it has a plan.
    writes: Cell<u8>,
}

// SAFETY: plans belong to one process, and our code runs in its only thread.
unsafe impl Sync for Statement {}

impl Statement {
    /// A statement with parameters `$1`... of these types.
    pub const fn new(sql: &'static str, arguments: &'static [Oid]) -> Self {
        Statement::of(Sql::Constant(sql), arguments)
    }

    /// The same, of a text that is put together of constants on first use.
    pub const fn made(sql: fn() -> String, arguments: &'static [Oid]) -> Self {
        Statement::of(Sql::Made(sql), arguments)
    }

    const fn of(sql: Sql, arguments: &'static [Oid]) -> Self {
        Statement {
            sql,
            arguments,
            plan: Cell::new(std::ptr::null_mut()),
            writes: Cell::new(0),
        }
    }

    /// Whether it writes to the table of that index in [`catalog::TABLES`].
    fn writes(&self, table: usize) -> bool {
        self.writes.get() & (1 << table) != 0
    }

    fn find_writes(&self, sql: &str) {
        for (index, name) in catalog::TABLES.iter().enumerate() {
            let verbs = ["INSERT INTO ", "UPDATE ", "DELETE FROM "];
            if verbs
                .iter()
                .any(|verb| sql.contains(&format!("{verb}{name} ")))
            {
                self.writes.set(self.writes.get() | 1 << index);
            }
        }
    }

    fn plan(&self) -> Result<sys::SPIPlanPtr> {
        if !self.plan.get().is_null() {
            return Ok(self.plan.get());
        }
        let sql: Cow<'static, str> = match self.sql {
            Sql::Constant(sql) => sql.into(),
            Sql::Made(make) => make().into(),
        };
        let c_sql = text(sql.as_bytes());
        let (c_sql, count) = (c_sql.as_ptr(), self.arguments.len() as i32);
        let types = self.arguments.as_ptr().cast_mut();
        // SAFETY: SPI is connected; statement and types live for the call.
        let plan = protect(|| unsafe {
            let plan = sys::SPI_prepare(c_sql, count, types);
            if !plan.is_null() {
                sys::SPI_keepplan(plan);
            }
            plan
        })?;
        if plan.is_null() {
            return Err(PgError::internal("SPI_prepare failed"));
        }
        self.plan.set(plan);
        self.find_writes(&sql);
        Ok(plan)
    }
}

/// An SPI connection. Rows read through it are gone at its end.
pub struct Spi {
    extension: Extension,
}

/// Runs `body` with SPI connected. After an error the (sub)transaction's end disconnects it.
pub fn connect<T>(extension: &Extension, body: impl FnOnce(&Spi) -> Result<T>) -> Result<T> {
    // SAFETY: a transaction with an active snapshot is open.
    protect(|| unsafe { sys::SPI_connect() })?;
    let value = body(&Spi {
        extension: *extension,
    })?;
    // SAFETY: connected above; rows borrow the connection, so `value` holds none of them.
    protect(|| unsafe { sys::SPI_finish() })?;
    Ok(value)
}

impl Spi {
    /// Runs one of our statements.
    pub fn run(&self, statement: &Statement, arguments: &[Option<Datum<'_>>]) -> Result<Rows<'_>> {
        self.execute(statement, arguments, false)
    }

    /// Runs one of our queries under the active snapshot.
    pub fn read(&self, statement: &Statement, arguments: &[Option<Datum<'_>>]) -> Result<Rows<'_>> {
        self.execute(statement, arguments, true)
    }

    fn execute(
        &self,
        statement: &Statement,
        arguments: &[Option<Datum<'_>>],
        read_only: bool,
    ) -> Result<Rows<'_>> {
        datum::check(arguments, statement.arguments)?;
        let plan = statement.plan()?;
        if !read_only {
            catalog::trust(&self.extension, |table| statement.writes(table))?;
        }
        catalog::refuse_altered()?;
        let values: Vec<sys::Datum> = arguments.iter().map(|a| datum::raw(*a)).collect();
        let nulls: Vec<libc::c_char> = arguments
            .iter()
            .map(|a| if a.is_some() { b' ' } else { b'n' } as _)
            .collect();
        let (values, nulls) = (values.as_ptr().cast_mut(), nulls.as_ptr());
        // SAFETY: the plan is kept; values and nulls are as many as it has parameters.
        let code = protect(|| unsafe { sys::SPI_execute_plan(plan, values, nulls, read_only, 0) })?;
        if code < 0 {
            // SAFETY: returns a constant string for any code.
            let name = unsafe { CStr::from_ptr(sys::SPI_result_code_string(code)) };
            return Err(PgError::internal(&format!(
                "SPI failed: {}",
                name.to_string_lossy()
            )));
        }
        // SAFETY: the call above set these; they are copied before the next call can replace them.
        let (table, count) = unsafe { (sys::SPI_tuptable, sys::SPI_processed) };
        let count = usize::try_from(count).unwrap_or(0);
        // While it waited for a lock, somebody may have altered what it then read.
        catalog::refuse_altered()?;
        Ok(Rows {
            table,
            count,
            frame: PhantomData,
        })
    }
}

/// The result of one statement. It, its rows and what is passed by reference in them are there as long as
/// the connection, to which the borrow ties them.
pub struct Rows<'a> {
    table: *mut sys::SPITupleTable,
    count: usize,
    frame: PhantomData<&'a Spi>,
}

impl<'a> Rows<'a> {
    /// How many rows were returned or changed.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first row, if the statement returned one.
    pub fn first(&self) -> Option<Row<'a>> {
        self.iter().next()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let returned = if self.table.is_null() { 0 } else { self.count };
        let (table, frame) = (self.table, self.frame);
        (0..returned).map(move |index| Row {
            table,
            index,
            frame,
        })
    }
}

/// One row of a result. Columns count from 1.
pub struct Row<'a> {
    table: *mut sys::SPITupleTable,
    index: usize,
    frame: PhantomData<&'a Spi>,
}

impl<'a> Row<'a> {
    /// The value with its type, or `None` for NULL.
    pub fn datum(&self, column: i32) -> Option<Datum<'a>> {
        let mut null = true;
        // SAFETY: index is below the number of rows of this table, which is alive; SPI_getbinval
        // answers a column that is not there with NULL.
        let value = unsafe {
            let tuple = *(*self.table).vals.add(self.index);
            let description = (*self.table).tupdesc;
            let value = sys::SPI_getbinval(tuple, description, column, &mut null);
            Datum::new(value, sys::mw_column_type(description, column))
        };
        (!null).then_some(value)
    }

    /// A `bigint` or `timestamptz`.
    pub fn i64(&self, column: i32) -> Option<i64> {
        self.datum(column).map(datum::as_i64)
    }

    /// An `integer`.
    pub fn i32(&self, column: i32) -> Option<i32> {
        self.datum(column).map(datum::as_i32)
    }

    /// An `oid` or `regrole`.
    pub fn oid(&self, column: i32) -> Option<Oid> {
        self.datum(column).map(datum::as_oid)
    }

    /// A `boolean`; NULL is false.
    pub fn bool(&self, column: i32) -> bool {
        self.datum(column).is_some_and(datum::as_bool)
    }

    /// A `text`, copied.
    pub fn text(&self, column: i32) -> Result<Option<Vec<u8>>> {
        self.datum(column).map(datum::as_text).transpose()
    }
}

/// Runs a statement as the caller, whose GRANTs do not become a part of what an extension came with:
/// within an extension's script the server would note them in pg_init_privs, and pg_dump would leave
/// them out.
pub fn run_outside_script(statement: &[u8]) -> Result<()> {
    let statement = text(statement);
    let statement = statement.as_ptr();
    // SAFETY: a variable of this process, put back below.
    let creating = unsafe { (&raw mut sys::creating_extension).replace(false) };
    // SAFETY: a transaction is open; the string lives for the call.
    let result = protect(|| unsafe {
        if sys::SPI_connect() != sys::SPI_OK_CONNECT as i32 {
            return false;
        }
        let done = sys::SPI_execute(statement, false, 0) >= 0;
        sys::SPI_finish();
        done
    });
    // SAFETY: as above.
    unsafe { sys::creating_extension = creating };
    match result? {
        true => Ok(()),
        false => Err(PgError::internal("SPI could not run a statement")),
    }
}
