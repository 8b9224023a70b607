// compiles: the others differ from it in what they do wrong alone
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::guard::protect;
use crate::pg::spi::{self, Statement};
use crate::pg::table::Table;
use crate::shared::{self, SHARED};

static NAME: Statement = Statement::new("SELECT 'x'::pg_catalog.text WHERE $1 > 0", &[types::INT8]);

pub fn name(extension: &Extension) -> Result<Option<Vec<u8>>> {
    spi::connect(extension, |spi| {
        let rows = spi.run(&NAME, &[Some(1i64.datum())])?;
        rows.first().map_or(Ok(None), |row| row.text(1))
    })
}

pub fn first(table: &Table) -> Result<Option<i64>> {
    let row = table.row()?;
    Ok(row.get(1).map(datum::as_i64))
}

pub fn look(database: u32) -> Result<Option<bool>> {
    shared::tell(|state| state.ask_look(database));
    let text = String::from("x");
    let length = text.len();
    protect(|| length)?;
    Ok(SHARED.peek(|unlocked| unlocked.slots.iter().any(|slot| slot.leaves())))
}
