//! The server's own declarations, generated from the installed headers by `build.rs` after
//! `allowlist.txt`, and those of `shim.h`. No idea of ours lives here; only `crate::pg` and
//! `crate::entry` may use it.

#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code
)]
#![allow(unsafe_op_in_unsafe_fn, unnecessary_transmutes)]
#![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::indexing_slicing, clippy::missing_safety_doc)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
