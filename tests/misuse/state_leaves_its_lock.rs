// error: lifetime may not live long enough
use crate::shared::{SHARED, Slot};

pub fn first() -> Option<&'static Slot> {
    SHARED.read(|state| state.slots.first()).flatten()
}
