//! Hashes the assets: their address changes when they do, so that browsers may keep them.

use std::hash::{DefaultHasher, Hash, Hasher};

fn main() {
    println!("cargo::rerun-if-changed=assets");
    let mut names: Vec<_> = std::fs::read_dir("assets")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    names.sort();
    let mut hasher = DefaultHasher::new();
    for name in names {
        std::fs::read(name).unwrap_or_default().hash(&mut hasher);
    }
    println!(
        "cargo::rustc-env=ASSETS_HASH={:08x}",
        hasher.finish() as u32
    );
}
