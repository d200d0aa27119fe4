//! Generates the message types from `definitions/*.def`.
//!
//! The grammar is described in `definitions/README.md`. A mistake in a
//! definition stops the build with its file and line.

use std::{env, fs, path::PathBuf};

#[path = "build/emit.rs"]
mod emit;
#[path = "build/model.rs"]
mod model;
#[path = "build/parse.rs"]
mod parse;
#[path = "build/samples.rs"]
mod samples;

fn main() {
    println!("cargo::rerun-if-changed=definitions");
    println!("cargo::rerun-if-changed=build");
    let mut paths: Vec<PathBuf> = fs::read_dir("definitions")
        .expect("the directory is part of the crate")
        .map(|entry| entry.expect("the directory is readable").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "def"))
        .collect();
    paths.sort();
    let mut apis: Vec<model::Api> = paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a definition is readable text");
            parse::api(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect();
    apis.sort_by_key(|api| api.key);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let files = [
        ("api_key.rs", emit::api_keys(&apis)),
        ("messages.rs", emit::messages(&apis)),
        ("with_request.rs", emit::with_request(&apis)),
        ("samples.rs", samples::samples(&apis)),
    ];
    for (name, text) in files {
        fs::write(out.join(name), text).expect("OUT_DIR is writable");
    }
}
