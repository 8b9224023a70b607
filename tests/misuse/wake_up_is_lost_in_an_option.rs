// error: Wake: Copy` is not satisfied
pub fn look(database: u32) {
    crate::shared::SHARED.write(|state| state.ask_look(database));
}
