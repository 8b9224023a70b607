// error: due to private field
pub fn forged() -> crate::pg::guard::Outcome<i32> {
    crate::pg::guard::Outcome { value: 1 }
}
