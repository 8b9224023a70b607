//! Ties the crate to one PostgreSQL server: finds it by `PG_CONFIG`, generates the bindings from
//! its installed headers by the allowlist in `src/sys/allowlist.txt`, compiles the C shim against
//! the same headers and tells the code the major version as `cfg(pg_ge_NN)`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Majors for which a `cfg(pg_ge_NN)` exists. The oldest supported comes first.
const MAJORS: std::ops::RangeInclusive<u32> = 15..=20;

fn main() {
    for major in MAJORS {
        println!("cargo::rustc-check-cfg=cfg(pg_ge_{major})");
    }
    // See scripts/misuse.
    println!("cargo::rustc-check-cfg=cfg(misuse)");
    // A directory stands for all files in it: the C sources, their headers, the allowlist.
    for file in ["build.rs", "wrapper.h", "src/sys"] {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-env-changed=PG_CONFIG");

    let pg_config = env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into());
    let major = server_major(&ask(&pg_config, "--version"));
    let include = PathBuf::from(ask(&pg_config, "--includedir-server"));
    if !include.join("postgres.h").exists() {
        stop(&format!(
            "the server headers are missing: no postgres.h in {} (run \"make deps\", or install \
             the package postgresql-server-dev-{major})",
            include.display()
        ));
    }
    // Another minor version may come to the same place.
    println!(
        "cargo::rerun-if-changed={}",
        include.join("pg_config.h").display()
    );
    for at_least in MAJORS.filter(|at_least| *at_least <= major) {
        println!("cargo::rustc-cfg=pg_ge_{at_least}");
    }
    compile_shim(&include);
    generate_bindings(&include);
}

/// The C side: the crossing, rows and trees, appending, counting, signals.
const SOURCES: [&str; 5] = [
    "src/sys/shim.c",
    "src/sys/access.c",
    "src/sys/append.c",
    "src/sys/leaves.c",
    "src/sys/signals.c",
];

const ALLOWLIST: &str = "src/sys/allowlist.txt";

/// One answer of pg_config, without the newline.
fn ask(pg_config: &str, question: &str) -> String {
    match Command::new(pg_config).arg(question).output() {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_string(),
        _ => stop(&format!(
            "could not run \"{pg_config} {question}\": is PostgreSQL's development package \
             installed? Set PG_CONFIG to the right pg_config, or run \"make deps\""
        )),
    }
}

/// "PostgreSQL 15.18 (Debian 15.18-0)" is 15, "PostgreSQL 19beta1" is 19.
fn server_major(version: &str) -> u32 {
    let digits = version.split_whitespace().nth(1).unwrap_or("");
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse() {
        Ok(major) if major >= *MAJORS.start() => major,
        _ => stop(&format!(
            "{version} is too old: my_worker needs PostgreSQL 15 or newer"
        )),
    }
}

fn compile_shim(include: &Path) {
    cc::Build::new()
        .files(SOURCES)
        .include(include)
        .include("src/sys")
        .define("_GNU_SOURCE", None)
        .flag("-fno-strict-aliasing")
        .flag("-fwrapv")
        .flag("-fexcess-precision=standard")
        .warnings(true)
        // Else a missing header shows when the server loads the library.
        .flag("-Werror=implicit-function-declaration")
        .flag_if_supported("-Wno-unused-parameter")
        .flag_if_supported("-Wno-sign-compare")
        .flag_if_supported("-Wno-missing-field-initializers")
        .flag_if_supported("-Wno-clobbered")
        .compile("my_worker_shim");
}

fn generate_bindings(include: &Path) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_arg(format!("-I{}", include.display()))
        .clang_arg("-Isrc/sys")
        .clang_arg("-D_GNU_SOURCE")
        .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate_comments(false)
        .derive_debug(false)
        .layout_tests(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .override_abi(bindgen::Abi::CUnwind, ".*");
    let list = fs::read_to_string(ALLOWLIST).unwrap_or_default();
    for line in list
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        builder = match line.split_once(' ') {
            Some(("fn", name)) => builder.allowlist_function(name),
            Some(("type", name)) => builder.allowlist_type(name),
            Some(("var", name)) => builder.allowlist_var(name),
            _ => stop(&format!("{ALLOWLIST}: cannot read the line \"{line}\"")),
        };
    }
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    match builder.generate() {
        Ok(bindings) if bindings.write_to_file(&out).is_ok() => {}
        Ok(_) => stop(&format!("could not write {}", out.display())),
        Err(error) => stop(&format!(
            "bindgen could not read the server headers: {error} (if it misses stddef.h, install \
             libclang-common-14-dev or the version that matches your libclang)"
        )),
    }
}

fn stop(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
