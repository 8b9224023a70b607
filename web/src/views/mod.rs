//! What pages look like. Whatever comes from the server is escaped by maud; nothing here is marked as
//! safe HTML.

pub mod detail;
pub mod layout;
pub mod lists;
pub mod login;
pub mod overview;
pub mod people;
pub mod queue;
pub mod schedules;
pub mod table;
