// error: String: Copy` is not satisfied
pub fn length(text: String) -> crate::pg::error::Result<usize> {
    crate::pg::guard::protect(move || text.len())
}
