// error: mismatched types
pub fn text() -> crate::pg::error::Result<Vec<u8>> {
    crate::pg::datum::as_text(12345usize)
}
