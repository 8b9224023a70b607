// error: non-primitive cast
use crate::pg::datum::ToDatum;

pub fn number() -> usize {
    1i64.datum() as usize
}
