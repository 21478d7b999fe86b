//! The `hookpack` binary.

use std::process::ExitCode;

/// A request is many small allocations on one thread, freed on another: a quarter of its time with the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookpack::cli::main()
}
