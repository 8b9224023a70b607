// error: cannot move out of `row` because it is borrowed
use crate::pg::datum;
use crate::pg::error::Result;
use crate::pg::table::Table;

pub fn first(table: &Table) -> Result<Option<Vec<u8>>> {
    let row = table.row()?;
    let value = row.get(2);
    row.end()?;
    value.map(datum::as_text).transpose()
}
