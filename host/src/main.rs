//! The `hookpack` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    hookpack::cli::main()
}
