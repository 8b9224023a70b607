// error: Wake` that must be used
pub fn look(database: u32) {
    crate::shared::SHARED.change(|state| state.ask_look(database));
}
