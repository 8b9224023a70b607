// error: no field `pid` on type
pub fn pid() -> Option<i32> {
    crate::shared::SHARED.peek(|unlocked| unlocked.slots.first().map_or(0, |slot| slot.pid))
}
