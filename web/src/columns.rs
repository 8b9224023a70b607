//! Structs that are read from rows: the fields of one are the columns of its statement, in that order.

/// Declares a struct with `read(&Row)`.
macro_rules! columns {
    ($(#[$about:meta])* $see:vis struct $name:ident {
        $($(#[$of:meta])* $may:vis $field:ident: $type:ty,)*
    }) => {
        $(#[$about])*
        $see struct $name { $($(#[$of])* $may $field: $type,)* }

        impl $name {
            $see fn read(row: &tokio_postgres::Row) -> Result<Self, $crate::fault::Fault> {
                let mut places = 0_usize..;
                Ok($name { $($field: row.try_get(places.next().unwrap_or_default())?,)* })
            }
        }
    };
}

pub(crate) use columns;
