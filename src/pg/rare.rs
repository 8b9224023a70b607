//! What few of the rows have that are appended to a table. An index of such rows alone is passed by for all others: to
//! evaluate its condition takes longer than to know that a row lacks it.

use super::datum::{self, Datum, types};
use super::nodes::{Node, child};
use super::row_values::RowValues;
use crate::sys;

/// What few rows have, in a column that is counted from 1.
pub enum Rare {
    /// It is not NULL.
    Set(i32),
    /// It is that text, which is so short that the server keeps it in the row as it is.
    Text(i32, &'static str),
}

impl Rare {
    /// Whether the condition of an index, a list of expressions that must all be true, is just that.
    pub(super) fn is_condition(&self, conditions: Node<'_>) -> bool {
        let mut all = conditions.members();
        let (Some(condition), None) = (all.next(), all.next()) else {
            return false;
        };
        match self {
            Rare::Set(column) => condition.cast::<sys::NullTest>().is_some_and(|test| {
                test.nulltesttype == sys::IS_NOT_NULL && is_column(child!(test, arg), *column)
            }),
            Rare::Text(column, text) => condition.cast::<sys::OpExpr>().is_some_and(|test| {
                let sides = child!(test, args);
                test.opfuncid == sys::F_TEXTEQ
                    && sides
                        .members()
                        .next()
                        .is_some_and(|left| is_column(left, *column))
                    && constant(sides).is_some_and(|right| datum::text_is(right, text.as_bytes()))
            }),
        }
    }

    /// Whether a row has it.
    pub(super) fn is_in<const COLUMNS: usize>(&self, row: &RowValues<'_, COLUMNS>) -> bool {
        match self {
            Rare::Set(column) => row.get(*column).is_some(),
            Rare::Text(column, text) => row
                .get(*column)
                .is_some_and(|value| datum::text_is(value, text.as_bytes())),
        }
    }
}

fn is_column(expression: Node<'_>, column: i32) -> bool {
    let column_of = |var: &sys::Var| i32::from(var.varattno);
    expression.cast::<sys::Var>().map(column_of) == Some(column)
}

/// The text on the right side of a comparison, if it is a constant.
fn constant(sides: Node<'_>) -> Option<Datum<'_>> {
    let right = sides.members().nth(1)?.cast::<sys::Const>()?;
    let is_text = right.consttype == types::TEXT && !right.constisnull;
    // SAFETY: a value of that type, which lives as long as its node.
    is_text.then(|| unsafe { Datum::new(right.constvalue, types::TEXT) })
}
