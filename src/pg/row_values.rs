//! The values of a row that is to be written.

use std::marker::PhantomData;

use super::datum::{Datum, Oid};
use super::error::{PgError, Result};
use super::owned_row::OwnedRow;
use crate::sys;

/// A value for each of the columns, which are of these types; NULL at first.
pub struct RowValues<'a, const COLUMNS: usize> {
    types: &'static [Oid; COLUMNS],
    values: [sys::Datum; COLUMNS],
    nulls: [bool; COLUMNS],
    /// What is passed by reference lives elsewhere.
    refers: PhantomData<Datum<'a>>,
}

impl<'a, const COLUMNS: usize> RowValues<'a, COLUMNS> {
    /// NULLs.
    pub fn new(types: &'static [Oid; COLUMNS]) -> Self {
        RowValues {
            types,
            values: [0; COLUMNS],
            nulls: [true; COLUMNS],
            refers: PhantomData,
        }
    }

    /// A row of these. 42804 if one is of another type.
    pub fn of(types: &'static [Oid; COLUMNS], row: &[Option<Datum<'a>>; COLUMNS]) -> Result<Self> {
        let mut values = RowValues::new(types);
        for (column, value) in (1..).zip(row) {
            if value.is_some() {
                values.set(column, *value)?;
            }
        }
        Ok(values)
    }

    /// Sets a column, counted from 1. 42804 if the value is of another type.
    pub fn set(&mut self, column: i32, value: Option<Datum<'a>>) -> Result<()> {
        let index = usize::try_from(column - 1).unwrap_or(COLUMNS);
        let places = self.values.get_mut(index).zip(self.nulls.get_mut(index));
        let (Some((place, null)), Some(of)) = (places, self.types.get(index)) else {
            return Err(PgError::internal("a row has fewer columns"));
        };
        if let Some(value) = value {
            value.check(*of)?;
        }
        (*place, *null) = (value.map_or(0, Datum::raw), value.is_none());
        Ok(())
    }

    /// Sets each column to what another row has in the column at that place, counted from 1, which must be of the
    /// same type; what that row lacks becomes NULL.
    pub fn take_over(&mut self, row: &'a OwnedRow, places: &[i32; COLUMNS]) {
        let columns = self.values.iter_mut().zip(&mut self.nulls);
        for ((place, of), (value, null)) in places.iter().zip(self.types).zip(columns) {
            (*value, *null) = row.raw(*place, *of).map_or((0, true), |raw| (raw, false));
        }
    }

    /// A column, counted from 1; `None` for NULL.
    pub(super) fn get(&self, column: i32) -> Option<Datum<'a>> {
        let index = usize::try_from(column - 1).ok()?;
        let (value, of) = (self.values.get(index)?, self.types.get(index)?);
        let is_null = *self.nulls.get(index)?;
        // SAFETY: a value of that type, which lives for 'a.
        (!is_null).then(|| unsafe { Datum::new(*value, *of) })
    }

    /// The values as statements take them.
    pub fn row(&self) -> [Option<Datum<'a>>; COLUMNS] {
        let columns = self.values.iter().zip(&self.nulls).zip(self.types);
        let mut row = [None; COLUMNS];
        for (place, ((value, null), of)) in row.iter_mut().zip(columns) {
            // SAFETY: a value of that type, which lives for 'a.
            *place = (!null).then(|| unsafe { Datum::new(*value, *of) });
        }
        row
    }

    /// As the server takes them: values, and which are NULL.
    pub(super) fn raw(&self) -> (&[sys::Datum; COLUMNS], &[bool; COLUMNS]) {
        (&self.values, &self.nulls)
    }
}
